"""A page for people who do not speak tokens: facts read from runs or a replay, and the page that shows them.

facts      what a report knows, as plain data
recorded   facts of runs, from the database;  replayed: facts of policies put over recorded outcomes
frontier   what the same work would have cost with the dearest model alone
intervals  how sure a share is
words      the paragraph at the top;  advice: what to do next
tuned      the page of a tuning;  promised: its words;  tried: its drawing
page       the HTML;  plots, scatter: its drawings
"""
