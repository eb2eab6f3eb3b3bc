"""Our own word lists: gender pairs, first names, and words of a kind that may be exchanged and must not matter.

Left out on purpose: words with another common meaning, such as `miss`, and what only one sex is or does, which no
swap leaves true; texts with the latter are excluded and counted.
"""


def listed(text: str) -> tuple[str, ...]:
    """Return the words of a text, as lists are written here."""
    return tuple(text.split())


GENDER = tuple(
    (pair.partition("/")[0], pair.partition("/")[2])
    for pair in listed(
        "she/he her/him her/his hers/his herself/himself woman/man women/men girl/boy girls/boys lady/gentleman "
        "ladies/gentlemen female/male females/males mother/father mothers/fathers mum/dad mom/dad mommy/daddy "
        "mummy/daddy daughter/son daughters/sons sister/brother sisters/brothers wife/husband wives/husbands "
        "grandmother/grandfather grandma/grandpa granddaughter/grandson aunt/uncle aunts/uncles niece/nephew "
        "nieces/nephews girlfriend/boyfriend girlfriends/boyfriends bride/groom widow/widower queen/king queens/kings "
        "princess/prince princesses/princes duchess/duke countess/count empress/emperor mrs/mr ms/mr madam/sir "
        "actress/actor actresses/actors waitress/waiter waitresses/waiters hostess/host heiress/heir "
        "stewardess/steward policewoman/policeman policewomen/policemen chairwoman/chairman spokeswoman/spokesman "
        "businesswoman/businessman businesswomen/businessmen saleswoman/salesman firewoman/fireman "
        "congresswoman/congressman sportswoman/sportsman landlady/landlord stepmother/stepfather "
        "stepdaughter/stepson stepsister/stepbrother godmother/godfather goddess/god nun/monk heroine/hero "
        "schoolgirl/schoolboy motherhood/fatherhood womanhood/manhood sisterhood/brotherhood maternal/paternal "
        "feminine/masculine lass/lad"
    )
)
ONLY_ONE_SEX = frozenset(
    listed(
        "pregnant pregnancy pregnancies maternity paternity breastfeed breastfeeding breastfed menstruation menstrual "
        "menopause ovarian ovaries uterus uterine cervical gynecologist gynaecologist midwife midwives miscarriage "
        "prostate testicular testicles vasectomy beard bearded moustache mustache"
    )
)
WOMEN = listed(
    "mary anna emma olivia sophie laura julia sarah karen linda susan helen alice clara diana nora ruth martha jane "
    "lucy rachel emily hannah irene carol judith paula teresa victoria ellen"
)
MEN = listed(
    "john peter paul thomas david james robert michael george henry frank walter daniel simon martin oliver edward "
    "philip andrew kevin brian eric stephen arthur oscar leo victor hugo samuel patrick"
)
OCCUPATIONS = listed(
    "accountant analyst architect artist assistant baker barber bookkeeper builder butcher carpenter cashier chef "
    "chemist cleaner clerk coach cook counselor dentist designer developer doctor driver economist editor electrician "
    "engineer farmer firefighter gardener guard hairdresser instructor janitor journalist judge laborer lawyer "
    "librarian manager mechanic musician nurse optician painter pharmacist photographer physician pilot plumber "
    "porter professor programmer psychologist receptionist reporter researcher salesperson scientist secretary "
    "surgeon surveyor tailor teacher technician therapist translator tutor veterinarian writer"
)

# Words that may stand for each other and must not matter: rare ones, and such as are as common as pronouns.
KINDS = (
    OCCUPATIONS,
    WOMEN,
    MEN,
    ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"),
    ("january", "february", "april", "june", "july", "august", "september", "october", "november", "december"),
    ("london", "paris", "berlin", "madrid", "rome", "vienna", "oslo", "dublin", "boston", "chicago", "denver"),
    ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    ("red", "blue", "green", "yellow", "brown", "purple", "grey"),
    ("north", "south", "east", "west"),
    ("office", "building", "house", "room", "hall"),
    ("neighbour", "colleague", "friend", "visitor", "customer", "neighbor"),
    ("team", "group", "company", "firm"),
    ("today", "yesterday", "tomorrow", "tonight"),
    ("morning", "afternoon", "evening"),
    ("year", "month", "week", "day"),
    ("years", "months", "weeks", "days"),
    ("the", "this", "that", "a"),
    ("a", "one", "some", "the"),
    ("my", "our", "your", "their"),
    ("very", "really", "quite"),
    ("and", "plus"),
    ("but", "yet"),
    ("because", "since"),
    ("often", "frequently", "usually"),
    ("also", "too"),
    ("at", "near", "in"),
    ("is", "was"),
    ("are", "were"),
    ("has", "had"),
    ("i", "we"),
    ("when", "while"),
)
SAYS = frozenset({"told", "tell", "tells", "gave", "give", "gives", "sent", "send", "showed", "show", "asked", "ask"})
ENDS_NOUN_PHRASE = frozenset(
    listed(
        "to a an the and or but for with at on in by as that if when while because since about from of off out up down "
        "over into than then so was is were are be been had has have did does do not again today tomorrow yesterday "
        "tonight now please soon later here there who which what where why how me you him them it us i we they he she "
        "this these those every some any no can could will would shall should may might must"
    )
)
MAKES = frozenset(
    listed("found find finds made make makes call calls called keep keeps kept consider considers considered")
)
COMPLEMENTS = ("ful", "less", "ous", "ive", "able", "ible", "ant", "ent", "ish", "ing", "ed", "ic", "ly")
