"""The gateways that a shop may take money by, chosen by PALETTA_GATEWAYS."""
