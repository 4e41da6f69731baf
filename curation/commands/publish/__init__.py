"""A pack goes to the Hugging Face hub: what must hold before, what is sent, and how."""
