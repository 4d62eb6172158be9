"""The household tax demo: invented families, their papers, and simulated models that read them.

Everything here is made up, offline, and not tax advice. Who may know what:

    facts.py         what a folder of papers says, once read: the extraction's output
    tax.py           Facts → TaxReturn, in plain code
    instructions.py  what the extracting and the auditing model are told
    checks.py        what is wrong with Facts or a TaxReturn, from the papers' text alone; never sees a truth
    cases.py         a household, its true answer, and how a result is graded against it
    households.py    draws the cases from a seed
        dice.py      chance that is the same on every machine
        names.py     invented people, employers and banks
        papers.py    one paper → its text
        notes.py     the client's intake note → its text
        problems.py  what is missing from a folder or contradicts itself
    models.py        what a simulated model answers: the truth, with errors
        rates.py     how often it errs: the table
        errors.py    how it errs: one function per kind
"""
