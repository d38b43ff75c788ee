"""What the commands do. The modules beside this folder are their doors: python -m minippo.NAME."""
