"""The ledger: accounts, holds and posts."""
