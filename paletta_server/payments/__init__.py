"""Money in and back: gateways behind one interface, payments, refunds, disputes, and the webhook inbox."""
