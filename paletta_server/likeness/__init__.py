"""Clips that look alike: perceptual hashes of a clip's frames, and who has them already."""
