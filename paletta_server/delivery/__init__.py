"""What customers own and how they get it: entitlements, download grants, certificates, the mailed page."""
