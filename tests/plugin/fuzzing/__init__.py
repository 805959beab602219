"""A user who clicks anything in any order: seeded random actions on a real viewer, and a witness who watches."""
