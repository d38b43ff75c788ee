"""report.html: what a run came to, on one page that opens from disk.

read.py     the files of a run folder, read as data of a stranger
texts.py    words and numbers as HTML; every text is escaped here
outcome.py  the three sentences, diagnostics, settings, seconds
curves.py   curves over the updates, as SVG
plane.py    score against KL with the optimal frontier, as SVG
samples.py  what was answered, before and after and on the way
strip.py    a response token by token
page.py     all of it as one document; page.css and page.js are its style sheet and its script
"""
