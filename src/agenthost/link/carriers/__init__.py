"""What moves the bytes of a link."""
