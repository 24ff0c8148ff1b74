//! What fills the slots of phrases.

/// A word or phrase that fills a slot, and its other forms.
pub(crate) struct Filler {
    /// As people say it.
    pub(crate) said: &'static str,
    /// As the answer and, with `_` for spaces, the action name it.
    pub(crate) named: &'static str,
}

/// A place in a phrase and what may stand there.
pub(crate) struct Slot {
    pub(crate) name: &'static str,
    /// A second slot with the `named` form of the same filler, in requests too.
    pub(crate) second: Option<&'static str>,
    pub(crate) fillers: &'static [Filler],
}

const fn differs(said: &'static str, named: &'static str) -> Filler {
    Filler { said, named }
}

const fn same(said: &'static str) -> Filler {
    Filler { said, named: said }
}

const fn slot(name: &'static str, fillers: &'static [Filler]) -> Slot {
    Slot { name, second: None, fillers }
}

const fn pair(name: &'static str, second: &'static str, fillers: &'static [Filler]) -> Slot {
    Slot { name, second: Some(second), fillers }
}

/// Slots with fixed fillers; those of numbers are in `dialogues`.
pub(crate) const SLOTS: &[Slot] = &[
    slot(
        "room",
        &[
            same("kitchen"),
            same("living room"),
            same("bedroom"),
            same("bathroom"),
            same("hallway"),
            same("office"),
            same("dining room"),
            same("guest room"),
            same("garage"),
            same("attic"),
        ],
    ),
    slot(
        "door",
        &[
            same("front"),
            same("back"),
            same("garage"),
            same("balcony"),
            same("cellar"),
            same("garden"),
            same("terrace"),
        ],
    ),
    slot("state", &[same("on"), same("off")]),
    pair(
        "move",
        "moved",
        &[
            differs("open", "open"),
            differs("raise", "open"),
            differs("pull up", "open"),
            differs("close", "closed"),
            differs("lower", "closed"),
            differs("shut", "closed"),
        ],
    ),
    pair(
        "place",
        "where",
        &[
            differs("toilet", "on the ground floor next to the cloakroom"),
            differs("cafe", "on the ground floor behind the stairs"),
            differs("shop", "next to the exit"),
            differs("cloakroom", "to the left of the entrance"),
            differs("lift", "behind the ticket desk"),
            differs("exit", "at the end of the hall"),
            differs("garden", "behind the cafe"),
            differs("library", "on the second floor on the right"),
            differs("picture gallery", "on the first floor on the left"),
            differs("dinosaur hall", "on the second floor on the left"),
            differs("bus stop", "across the street"),
            differs("car park", "behind the building"),
            differs("information desk", "to the right of the entrance"),
            differs("baby changing room", "on the ground floor next to the lift"),
        ],
    ),
    pair(
        "visitor",
        "price",
        &[
            differs("adults", "12"),
            differs("children", "5"),
            differs("students", "8"),
            differs("seniors", "9"),
            differs("families", "28"),
            differs("groups", "70"),
        ],
    ),
    slot(
        "strange",
        &[
            same("greenhouse"),
            same("shed"),
            same("pool"),
            same("sauna"),
            same("stable"),
            same("basement"),
            same("workshop"),
            same("studio"),
            same("gym"),
            same("pantry"),
            same("laundry"),
            same("tower"),
            same("barn"),
            same("porch"),
            same("wardrobe"),
            same("playroom"),
            same("lounge"),
            same("winter garden"),
            same("music room"),
            same("storage room"),
        ],
    ),
    slot("turn", &[same("turn"), same("switch"), same("put")]),
    slot("lights", &[same("lights"), same("light"), same("lamps"), same("lamp")]),
    slot("blinds", &[same("blinds"), same("blinds"), same("shutters"), same("curtains")]),
    slot("dim", &[same("dim"), same("lower"), same("dim down")]),
    slot("percent", &[same("percent"), same("%"), same("per cent")]),
    slot("degrees", &[same("degrees"), same("degrees"), same("degrees Celsius"), same("°C")]),
    slot(
        "heating",
        &[same("heating"), same("heater"), same("temperature"), same("thermostat"), same("radiator")],
    ),
    slot("heating_device", &[same("heating"), same("heater"), same("radiator")]),
    slot("i_want", &[same("I want"), same("I would like"), same("I'd like")]),
    slot(
        "thing",
        &[
            same("bag"),
            same("phone"),
            same("umbrella"),
            same("keys"),
            same("wallet"),
            same("jacket"),
            same("hat"),
            same("scarf"),
            same("glasses"),
            same("ticket"),
        ],
    ),
    slot(
        "topic",
        &[
            same("France"),
            same("Spain"),
            same("Japan"),
            same("Canada"),
            same("London"),
            same("Africa"),
            same("the moon"),
            same("the sea"),
            same("love"),
            same("winter"),
            same("football"),
            same("history"),
            same("the sun"),
            same("horses"),
            same("potatoes"),
            same("rice"),
            same("fish"),
            same("computers"),
            same("elephants"),
            same("gold"),
            same("space"),
            same("chess"),
            same("trains"),
            same("Shakespeare"),
            same("Einstein"),
        ],
    ),
];
