"""By which network? Architectures, and the fast copies that certify and attack."""
