"""How many events a second one core counts, beside what decoding alone takes."""
