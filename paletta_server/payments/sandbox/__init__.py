"""The sandbox gateway: an outside system in all but its address, that sells for nothing.

It keeps its books in tables of its own, shows a hosted page, signs its events and delivers them over HTTP. The
shop talks to it through `gateway.SandboxGateway` alone. It never runs in production.
"""
