"""Names for people, employers and banks. All made up; any likeness is chance."""

from orchestrion.demo.dice import Dice

GIVEN = (
    "Abelia", "Ansgar", "Bertil", "Brisa", "Calder", "Corvin", "Dagny", "Delphine", "Edda", "Elowen", "Fabrizia",
    "Fenna", "Gideon", "Greta", "Halvard", "Hesper", "Ilka", "Isidor", "Jessamy", "Jorun", "Kerensa", "Kirsa",
    "Lavinia", "Leander", "Maren", "Merrick", "Nadja", "Nestor", "Odile", "Orsino", "Perpetua", "Quillan", "Romilda",
    "Rowena", "Sanna", "Severin", "Tamsin", "Thaddeus", "Ulla", "Vesper", "Wendel", "Yorick", "Zelda", "Zephyrin",
)  # fmt: skip
FAMILY_START = ("Alder", "Birch", "Copper", "Dapple", "Elder", "Fennel", "Gold", "Hollow", "Juniper", "Kettle", "Lark",
                "Marrow", "Nettle", "Oaken", "Pepper", "Quill", "River", "Silver", "Thistle", "Willow")  # fmt: skip
FAMILY_END = ("brook", "croft", "dale", "field", "gate", "holt", "mere", "shaw", "thorpe", "wick")
TRADES = ("Bakeries", "Bicycle Works", "Boatyard", "Bookbinding", "Ceramics", "Cold Storage", "Dental Group", "Freight",
          "Glassworks", "Hardware", "Irrigation", "Joinery", "Laundries", "Lighting", "Nurseries", "Optics",
          "Paper Mill", "Robotics", "School District", "Shipping", "Textiles", "Veterinary Clinic")  # fmt: skip
PLACES = ("Amberly", "Blackfen", "Cloverdale Bend", "Dunmarsh", "Eastmoor", "Foxhollow", "Greywater", "Harrow Point",
          "Ivory Ridge", "Kestrel Bay", "Larkrise", "Millrace", "Northgate", "Orchard Hill", "Pinecrest Flats",
          "Quarry Lake", "Redcliff Falls", "Stonebridge Landing", "Tidewater Reach", "Westering")  # fmt: skip
BANKS = ("Savings Bank", "Credit Union", "Mutual Bank", "Thrift", "Community Bank")
STREETS = ("Alewife Street", "Bellows Lane", "Cartwright Road", "Dory Court", "Easel Avenue", "Ferry Row")
STATES = ("CO", "GA", "IL", "IN", "MA", "MI", "NC", "OH", "PA", "VA")  # all of them tax wages


def family_name(dice: Dice) -> str:
    return dice.pick(FAMILY_START) + dice.pick(FAMILY_END)


def organisations(dice: Dice, kinds: tuple[str, ...], count: int) -> list[str]:
    """Different ones: no two share a place."""
    return [f"{place} {dice.pick(kinds)}" for place in dice.shuffled(PLACES)[:count]]


def address(dice: Dice) -> str:
    return f"{dice.between(2, 980)} {dice.pick(STREETS)}"


def ssn(dice: Dice) -> str:
    """Area 000 was never issued, so this is nobody's."""
    return f"000-{dice.between(1, 99):02}-{dice.between(1, 9999):04}"


def ein(dice: Dice) -> str:
    """Prefix 00 is given to no employer."""
    return f"00-{dice.between(0, 9_999_999):07}"
