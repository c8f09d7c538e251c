"""What runs inside, once, where a provider only runs programs: ``start.sh``, then ``prepare.py``."""
