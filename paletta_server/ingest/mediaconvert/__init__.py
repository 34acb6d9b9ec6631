"""Transcoding by AWS Elemental MediaConvert: the worker judges and orders, a job of theirs encodes, a worker finishes.

An attempt is handed over in one transaction (`jobs.hand_over`); from then on its row in `transcode_jobs` carries it,
and no process of ours waits. What becomes of it is heard from events (`completions`) and, where those are lost, asked
for (`reconcile`): both end in `jobs.hear`, so that it makes no difference which of them was first, or how often.
"""
