"""English sentences from a grammar of moderate vocabulary, for corpora of synthetic speech.

A rule is a list of alternatives; [name] stands for an expansion of the rule `name`, and <x> for
the letter x said by its name.
"""

import functools
import re

import numpy as np

from deepaudio.data import speech_numbers as numbers

LETTERS = "abcdefghijklmnopqrstuvwxyz"
NATO = (
    "alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima mike november oscar "
    "papa quebec romeo sierra tango uniform victor whiskey x-ray yankee zulu"
).split()
_SYMBOLS = (
    "star|pound|dash|dot|slash|backslash|comma|colon|semicolon|question mark|plus|minus|percent|"
    "equals|underscore|ampersand|asterisk|space|quote|left bracket|right bracket|dollar sign"
)

# Weights of the kinds of sentence.
_KINDS = {
    "single": 6,
    "count": 7,
    "date": 6,
    "time": 6,
    "price": 6,
    "phone": 6,
    "spelling": 6,
    "nato": 3,
    "command": 12,
    "prompt": 10,
    "talk": 12,
    "weather": 4,
    "story": 16,
}

_RULES = {
    "single": "[digit]|[digit]|[letter]|[letter]|[nato_word]|[nato_word]|[teen]|[tens]|[ordinal]|"
    "[month]|[weekday]|[unit]|[one_word]|[symbol]",
    "unit": "hundred|thousand|million|billion|dollars|cents|minutes|seconds|hours|percent|degrees|"
    "hundredth|thousandth|millionth|billionth|minute|second|hour|o'clock|<a> <m>|<p> <m>|oh",
    "one_word": "yes|no|hello|goodbye|thanks|sorry|please|stop|go|start|cancel|help|today|"
    "tomorrow|yesterday|now|later|never|always|maybe|okay|left|right|up|down|on|off|open|close|"
    "next|last|first|from|for|with|and|is|at|your|number|time|message|messages|password|received|"
    "saved|removed|added|enabled|disabled|activated|calling|cancelled|invalid|location|transfer|"
    "new|old|work|family|friends|urgent|record|pause|paused|playback|press|extension|agent|local|"
    "console|niner|zed|uppercase|lowercase|name|street|city|house|phone|music|light|door|water|"
    "coffee",
    "symbol": "star|pound|dash|dot|slash|backslash|comma|colon|semicolon|question mark|plus|minus|"
    "percent|equals|underscore|ampersand|asterisk|space|quote|left bracket|right bracket|"
    "dollar sign",
    "count": "[amount] [things]|there are [amount] [things] [place]|i counted [amount] [things]|"
    "[amount] plus [amount] makes [amount]|[amount] minus [digit] is [amount]|page [amount]|"
    "chapter [digit], verse [teen]|[amount] point [digit] [digit]|minus [tens] degrees|"
    "the answer is [amount]|room [amount]|flight [digit] [digit] [digit]|bus number [teen]|"
    "you have [digit] new messages and [teen] old messages|[ordinal] of [amount]|[big]|"
    "[big] people|the population is [big]|add [digit] and [digit]|the [ordinal] [thing] [place]|"
    "[tens] percent|[amount] [distance]|it is [amount] [distance] to [city]|"
    "[digit] times [digit] is [amount]|[tens] [digit] percent of the [things]|"
    "divide [big] by [amount]|number [amount]",
    "distance": "miles|meters|feet|inches|kilometers|steps",
    "date": "[weekday]|[month] [day]|[weekday], [month] [day]|[month] [day], [year]|"
    "today is [weekday] the [day] of [month]|the meeting is on [month] [day]|in [year]|"
    "she was born in [year]|he died in [month] [year]|see you on [weekday]|"
    "the [day] of [month], [year]|my birthday is [month] [day]|call me back on [weekday]|"
    "we will be closed from [weekday] to [weekday]|the war ended in [year]|"
    "since [month] of [year]|remind me on [weekday] to [task]|what day is [month] [day]|"
    "next [weekday]|last [weekday]|[weekday] [part_of_day]|the house was built in [year]|"
    "the first of [month]",
    "time": "[clock]|at [clock]|it is [clock]|it's [clock] now|wake me up at [clock]|"
    "[part_of_day]|the train leaves at [clock]|set an alarm for [clock]|"
    "the show starts at [clock]|dinner is at [clock]|"
    "the store opens at [clock] and closes at [clock]|[amount] minutes|be there by [clock]|"
    "in [amount] minutes|[digit] hours and [tens] minutes ago|what time is it|"
    "the time is [clock] exactly|the flight to [city] leaves at [clock]|[tens] seconds|"
    "set a timer for [amount] minutes|half an hour ago|wait [digit] more minutes",
    "price": "[money]|that will be [money]|it costs [money]|i paid [money] for the [thing]|"
    "the total is [money]|your balance is [money]|can i borrow [money]|"
    "[money] for [digit] [things]|the [thing] is on sale for [money]|send [money] to [person]|"
    "he owes me [money]|the rent is [money] a month|your bill of [money] is due on [month] [day]|"
    "please pay [money] by [weekday]|a tip of [tens] percent is [money]|pay [person] [money]",
    "phone": "[phone_number]|call [phone_number]|my number is [phone_number]|dial [phone_number]|"
    "the number you have dialed is [phone_number]|extension [extension]|"
    "please call me at [phone_number]|the code is [extension]|your pin is [extension]|"
    "the area code is [area]|zip code [zip]|enter [extension] and press pound|"
    "my account number is [zip] [area]|the license plate is [letter] [letter] [letter] [area]|"
    "flight [letter] [letter] [area]|text [person] at [phone_number]|order number [phone_number]",
    "spelling": "[letters]|[letters]|[letters]|my name is spelled [letters]|"
    "please spell [letters]|the letters are [letters]|[letter] as in [nato_word]|"
    "[letter] is for [thing]|it starts with the letter [letter]|[letter] and [letter]|"
    "the password is [letters]|[letters] [extension]|spell that with <a> [letter]|"
    "[letter] or [letter]|[letters] dot com|[person] at [letters] dot org",
    "nato": "[nato_word] [nato_word] [nato_word]|[nato_word] [nato_word]|"
    "[nato_word] [nato_word] [nato_word] [nato_word]|[nato_word] [extension]|"
    "this is [nato_word] [nato_word], over|[letter] [nato_word], [letter] [nato_word]|"
    "[nato_word] [digit] [digit], you are cleared to land|gate [nato_word] [digit]",
    "command": "turn [on_off] the [device]|turn the [device] [on_off]|"
    "turn [on_off] the [device] in the [room]|turn [up_down] the [quantity]|"
    "set the [quantity] to [amount]|[open_close] the [opening]|"
    "[open_close] the [opening] in the [room]|play some [music]|play [music] in the [room]|"
    "stop the music|play the next song|pause the [media]|skip this [media]|call [person]|"
    "send a message to [person]|read my [mail]|delete the last [mail]|reply to [person]|"
    "add [food] to the shopping list|remind me to [task]|what is on my [list] for [weekday]|"
    "open the [file]|save the [file]|close the [file]|copy the [file] to the [folder]|"
    "delete the [file]|print [digit] copies|search for [things]|show me [things]|"
    "take me to [city]|how do i get to the [building]|find a [building] near the [building]|"
    "lock the [opening]|scroll [up_down]|go back|go to the next page|select all|new line|"
    "undo that|zoom [in_out]|shut down the computer|restart the computer|take a picture|"
    "start the [device]|make the [room] [brighter]|navigate home|translate this sentence|"
    "what is the weather in [city]|mute the [device]|cancel the alarm|"
    "turn [left_right] at the [building]",
    "prompt": "press [key] to [option]|press [key] for [topic]|to [option], press [key]|"
    "for [topic], press [key]|please enter your [secret] followed by the pound key|"
    "please enter the [secret]|you have entered an invalid [secret]|that is not a valid [secret]|"
    "your [secret] has been [done]|the [object] has been [done]|[object] [done]|"
    "your call cannot be completed|all [callees] are busy now|please hold the line|"
    "please try again|please hold while i connect you|i'm sorry, that [secret] is not valid|"
    "the person at extension [extension]|is [state]|please leave your message after the tone|"
    "when done, hang up or press the pound key|thank you for calling|thank you for your patience|"
    "you are caller number [teen]|there are [digit] [callees] in the conference|"
    "the conference is now [done]|you are now [done]|the [secret] did not match|"
    "[first_last] message|message from [phone_number]|"
    "press [key] to [option], or [key] to [option]|welcome to the [object]|no more [things]|"
    "one moment please|to [option]|otherwise, please continue to hold|the [object] is [state]|"
    "at the tone, please say your [secret]|this number is not in service|goodbye|"
    "the [object] will begin when the [callee] arrives|you may exit by pressing [key]|"
    "if you know the [secret], you may dial it at any time|waiting to speak with [callees]|"
    "there is currently one other [callee] in the conference|"
    "the estimated [object] is [teen] minutes",
    "option": "[change] the [object]|[change] your [object]|[change] this message|"
    "return to the main menu|hear the next message|repeat the current message|leave a message|"
    "reach an operator|call this number|call the person who sent this message|"
    "mute or unmute yourself|lock or unlock the conference|increase the volume|"
    "decrease the volume|exit the menu|send a reply|leave the conference|accept this call|"
    "reject the call|try again|cancel|listen to it|use the directory|enter an extension|"
    "speak to [callees]|extend the conference",
    "change": "change|record|delete|undelete|save|hear|erase|accept|send|forward|review|cancel|"
    "enter|rerecord|play|reset|list|remove|eject|mute|lock|unlock|mark",
    "object": "message|greeting|temporary greeting|conference|recording|mailbox|directory|"
    "password|name|extension|call|line|system|number|option|volume|folder|menu|feature|request|"
    "account|hold time|audio|user|busy message|unavailable message|entry|voicemail|telephone|"
    "menu option",
    "secret": "password|number|extension|account number|phone number|agent number|"
    "conference number|pin number|mailbox|name|last name|first name|code|key|"
    "personal identification number|mailbox number|area code|new password|choice|option|login",
    "done": "changed|saved|deleted|forwarded|removed|activated|enabled|disabled|locked|unlocked|"
    "muted|unmuted|recorded|cancelled|accepted|received|extended|added|reset|completed|sent",
    "state": "busy|on the phone|unavailable|in use|full|empty|not available|now locked|too short|"
    "not answering|currently active|closed|at the desk|out of service|not in service",
    "callees": "agents|representatives|operators|participants|callers|users|circuits|"
    "conference administrators|customers|members|people",
    "callee": "agent|representative|operator|participant|caller|user|leader|administrator|"
    "customer|member|person",
    "key": "[digit]|[digit]|[digit]|star|pound|the pound key|the star key",
    "topic": "help|more options|advanced options|sales|customer service|accounting|an operator|"
    "the directory|mailbox options|technical support|billing|the company directory|english|"
    "other choices|the next message|more information|urgent messages",
    "first_last": "first|last|next|previous|new|old|urgent|saved",
    "talk": "how are you [today]|i am [feeling] [today]|nice to meet you, [person]|"
    "good [day_part]|what is your name|my name is [person]|where are you from|i come from [city]|"
    "i like [things]|do you like [things]|i don't like [things] at all|see you [later]|"
    "thank you very much|you're welcome|excuse me, where is the [building]|"
    "i have to [task] [later]|let's go to the [building]|what did you [do] [yesterday]|"
    "have you seen [person]|[person] is my [relative]|my [relative] works in a [building]|"
    "i'll have the [food] and a glass of [drink]|would you like some [food]|"
    "a cup of [drink], please|i can't find my [thing]|whose [thing] is that|it doesn't matter|"
    "i don't know|i think so too|that's a good idea|that's [feeling]|are you sure|of course not|"
    "what do you think about the [thing]|could you help me, please|"
    "i'm looking for a [adjective] [thing]|she said that she would [do] [later]|"
    "we should [do] more often|don't forget to [task]|happy birthday, [person]|"
    "how much is the [thing]|how many [things] do you have|why don't we [do] [later]|"
    "i've never been to [city]|we went to [city] last [season]|he isn't [feeling]|"
    "they aren't here|i'd like to [do]|it's too [adjective]|you must be [feeling]|"
    "[person] and [person] are [feeling]|when will [person] arrive|take care of yourself|"
    "i haven't heard from [person] in [teen] years",
    "weather": "it is [sky] in [city]|tomorrow will be [sky]|it was [sky] all [season]|"
    "the temperature is [amount] degrees|a [tens] percent chance of [rain]|"
    "there was [rain] [place]|[sky] and [sky] with [rain] in the [day_part]|"
    "the wind blows from the [compass]|will it [rain_verb] on [weekday]|"
    "expect [rain] in the [compass]|the [season] was [sky]",
    "story": "[subject] [verb_past] the [thing]|"
    "[subject] [verb_past] the [adjective] [thing] [place]|[subject] [went] [place]|"
    "[subject] [went] [place] and [verb_past] the [thing]|"
    "when [subject] [went] [place], [subject] [verb_past] the [thing]|"
    "[subject] was [feeling] because [subject] [verb_past] the [thing]|"
    "the [thing] was [adjective] and [adjective]|there was a [adjective] [thing] [place]|"
    "[subject] never [verb_past] the [things]|"
    "in the [day_part] [subject] [verb_past] [amount] [things]|"
    "[subject] gave [person] a [adjective] [thing]|"
    "[subject] wanted to [do] but [subject] [verb_past] the [thing]|"
    "nobody [verb_past] the [thing] [place]|every [day_part], [subject] [went] [place]|"
    "if [subject] [verb_past] the [thing], [person] would be [feeling]|"
    "[person]'s [thing] is [place]|the [adjective] [animal] [went] [place]|"
    "[digit] [adjective] [animals] [went] [place]|[subject] told [person] about the [things]|"
    "the [animal] and the [animal] [went] [place]",
    "subject": "[person]|he|she|they|we|i|you|the [animal]|the [job]|my [relative]|"
    "the [adjective] [job]|everybody|somebody|his [relative]|her [relative]|the [jobs]",
    "person": "john|mary|peter|susan|david|sarah|michael|linda|james|emma|robert|anna|thomas|"
    "laura|paul|helen|george|alice|henry|julia|daniel|kate|martin|rose|simon|jane|frank|grace|"
    "oliver|sophie|jack|lucy|adam|ruth|ben|nancy|samuel|betty|victor|diana|mister [surname]|"
    "missus [surname]|doctor [surname]",
    "surname": "smith|brown|jones|miller|wilson|taylor|clark|hall|young|king|green|baker|cooper|"
    "turner|parker|morgan|hughes|white|black|jackson|martin|thompson|walker|wood|fisher",
    "relative": "mother|father|sister|brother|uncle|aunt|cousin|grandmother|grandfather|daughter|"
    "son|wife|husband|neighbor|friend|boss|teacher",
    "job": "teacher|doctor|farmer|driver|soldier|singer|lawyer|baker|nurse|painter|judge|sailor|"
    "captain|king|queen|student|writer|hunter|priest|engineer|actor|cook|thief|guard|mayor|pilot",
    "jobs": "teachers|doctors|farmers|drivers|soldiers|singers|children|women|men|students|"
    "sailors|police|judges|workers|neighbors|guests|players|boys|girls|engineers",
    "animal": "dog|cat|horse|cow|bird|mouse|fox|wolf|lion|bear|sheep|goat|pig|duck|rabbit|snake|"
    "fish|frog|eagle|monkey|elephant|tiger|chicken|bee|whale|donkey",
    "animals": "dogs|cats|horses|cows|birds|mice|foxes|wolves|lions|bears|sheep|goats|pigs|ducks|"
    "rabbits|snakes|frogs|monkeys|elephants|tigers|chickens|bees|whales",
    "thing": "book|letter|table|chair|window|door|key|phone|car|bicycle|boat|train|hat|coat|shirt|"
    "shoe|ring|watch|clock|picture|mirror|box|bottle|cup|plate|knife|spoon|lamp|candle|garden|"
    "tree|flower|stone|bridge|house|tower|ship|map|paper|pen|bag|basket|ball|game|song|story|"
    "question|answer|secret|problem|idea|plan|job|photograph|newspaper|computer|machine|engine|"
    "wheel|rope|blanket|pillow|towel|soap|brush|hammer|nail|ladder|fence|roof|wall|floor|kitchen|"
    "camera|radio|guitar|piano|drum|violin|ticket|passport|umbrella|jacket|glove|scarf|button|"
    "pocket",
    "things": "books|letters|tables|chairs|windows|doors|keys|cars|boats|trains|hats|shoes|rings|"
    "clocks|pictures|boxes|bottles|cups|plates|knives|candles|trees|flowers|stones|bridges|houses|"
    "ships|maps|papers|pens|bags|games|songs|stories|questions|answers|secrets|ideas|apples|eggs|"
    "oranges|potatoes|cookies|sandwiches|tickets|photographs|newspapers|machines|wheels|gloves|"
    "buttons|people|children|friends|students|messages|calls|files|pages|pieces|days|weeks|years",
    "adjective": "big|small|old|new|young|long|short|tall|heavy|light|dark|bright|red|blue|green|"
    "yellow|white|black|brown|gray|beautiful|ugly|cheap|expensive|clean|dirty|empty|full|hard|"
    "soft|hot|cold|warm|cool|dry|wet|fast|slow|strong|weak|quiet|loud|sweet|bitter|round|flat|"
    "deep|wide|narrow|strange|famous|wooden|golden|silver|broken|little|huge|tiny|thin|thick|"
    "sharp|smooth",
    "feeling": "happy|sad|tired|hungry|thirsty|angry|afraid|proud|sorry|busy|sick|fine|well|late|"
    "early|ready|surprised|worried|excited|bored|lonely|lucky|careful|quiet|safe|sure|glad",
    "verb_past": "saw|found|lost|bought|sold|took|brought|kept|hid|broke|fixed|painted|carried|"
    "opened|closed|cleaned|washed|watched|liked|loved|wanted|needed|remembered|forgot|heard|"
    "followed|pulled|pushed|dropped|threw|caught|held|chose|made|used|left|touched|counted|cut|"
    "drew|stole|showed|sent|asked about|looked at|waited for|talked about|thought of|built",
    "went": "went|walked|ran|jumped|swam|flew|drove|rode|came|slept|sat|stood|waited|stayed|lived|"
    "worked|played|danced|sang|fell|climbed|traveled|disappeared|rested|laughed",
    "do": "sing|dance|swim|read|write|sleep|eat|drink|cook|work|play|travel|walk|run|talk|listen|"
    "study|learn|buy a [thing]|see the [thing]|visit [city]|watch a movie|play the [instrument]",
    "instrument": "piano|guitar|violin|drums|trumpet|flute",
    "task": "buy [food]|call [person]|feed the [animal]|wash the [thing]|water the flowers|"
    "pay the bill|lock the [opening]|clean the [room]|pick up [person]|write to [person]|"
    "take out the trash|visit the [job]|bring the [thing]|fix the [thing]|walk the dog",
    "place": "in the [room]|in the [building]|near the [building]|behind the [building]|in [city]|"
    "on the table|under the bridge|across the river|by the sea|in the forest|on the mountain|"
    "over the hill|through the woods|along the road|at home|at school|on the roof|in the garden|"
    "beside the lake|between the houses|outside the city|around the corner|"
    "at the end of the street",
    "room": "kitchen|bathroom|bedroom|living room|garage|basement|hallway|office|garden|attic|"
    "dining room|library|classroom|laundry room|nursery",
    "building": "school|hospital|church|station|airport|hotel|restaurant|museum|theater|bank|"
    "market|bakery|library|factory|office|castle|farm|pharmacy|post office|police station|"
    "gas station|supermarket|bookstore|stadium|harbor|tower|university|park",
    "city": "london|paris|new york|boston|chicago|berlin|rome|madrid|dublin|sydney|toronto|denver|"
    "vienna|moscow|tokyo|cairo|athens|lisbon|oslo|dallas|houston|seattle|portland|atlanta|miami|"
    "detroit|phoenix|oxford|liverpool|manchester|glasgow|edinburgh|san francisco|los angeles",
    "food": "bread|butter|cheese|milk|eggs|rice|soup|salad|chicken|beef|fish|apples|bananas|sugar|"
    "salt|pepper|onions|tomatoes|potatoes|carrots|chocolate|ice cream|cake|cookies|honey|noodles|"
    "oranges|lemons|beans|pizza|pasta|sausages|mushrooms|strawberries",
    "drink": "water|milk|coffee|tea|juice|wine|beer|lemonade|orange juice|hot chocolate",
    "device": "light|lights|lamp|television|radio|fan|heater|oven|computer|printer|music|alarm|"
    "air conditioner|dishwasher|washing machine|speaker|camera|coffee machine|vacuum cleaner",
    "quantity": "volume|temperature|brightness|heat|speed|music|thermostat|sound",
    "opening": "door|front door|back door|window|windows|garage door|gate|curtains|blinds|car",
    "music": "music|jazz|rock|classical music|country music|blues|piano music|folk songs|opera|"
    "quiet music|songs by [person] [surname]",
    "media": "song|video|movie|album|music|show|game",
    "mail": "messages|mail|letters|notes|email|emails|news",
    "list": "calendar|list|schedule|shopping list",
    "file": "file|document|folder|window|picture|table|letter|report|page|program|browser",
    "folder": "folder|desktop|printer|server|camera|memory card",
    "brighter": "brighter|darker|warmer|cooler|quieter",
    "on_off": "on|off",
    "up_down": "up|down",
    "in_out": "in|out",
    "open_close": "open|close|lock|unlock",
    "left_right": "left|right",
    "today": "today|this morning|tonight|right now|these days",
    "yesterday": "yesterday|last night|last week|on [weekday]|this morning",
    "later": "tomorrow|later|tonight|next week|soon|on [weekday]|in [teen] minutes|after lunch",
    "day_part": "morning|afternoon|evening|night",
    "part_of_day": "in the morning|in the afternoon|in the evening|at night|at noon|at midnight",
    "season": "spring|summer|fall|winter|week|month|year|autumn",
    "sky": "sunny|cloudy|rainy|windy|cold|hot|warm|foggy|stormy|cool|dry|clear|humid|freezing",
    "rain": "rain|snow|hail|fog|thunder|light rain|heavy snow|strong winds|showers|sunshine|frost",
    "rain_verb": "rain|snow|be sunny|be windy|freeze",
    "compass": "north|south|east|west|northeast|southwest|northwest|southeast",
    "weekday": "monday|tuesday|wednesday|thursday|friday|saturday|sunday",
    "month": "january|february|march|april|may|june|july|august|september|october|november|"
    "december",
}


@functools.cache
def _alternatives(name: str) -> list[str]:
    return _RULES[name].split("|")


def _choice(rng: np.random.Generator, options):
    return options[int(rng.integers(len(options)))]


def _clock(rng: np.random.Generator) -> str:
    hour = numbers.cardinal(int(rng.integers(1, 13)))
    minute = int(rng.integers(0, 60))
    form = int(rng.integers(5))
    if form == 0:
        return f"{hour} o'clock"
    if form == 1:
        return f"{_choice(rng, ('half past', 'quarter past', 'quarter to', 'a quarter to'))} {hour}"
    said = "oh " + numbers.cardinal(minute) if 0 < minute < 10 else numbers.cardinal(minute)
    said = f"{hour} {said}" if minute else hour
    if form == 2:
        return said
    return f"{said} {_choice(rng, ('<a> <m>', '<p> <m>'))}"


def _money(rng: np.random.Generator) -> str:
    dollars = int(np.exp(rng.uniform(0.0, np.log(2000.0))))
    cents = int(rng.integers(1, 100))
    form = int(rng.integers(4))
    dollar = "dollar" if dollars == 1 else "dollars"
    if form == 0:
        return f"{numbers.cardinal(dollars)} {dollar} and {numbers.cardinal(cents)} cents"
    if form == 1 and dollars < 100:
        oh = "oh " if cents < 10 else ""
        return f"{numbers.cardinal(dollars)} {oh}{numbers.cardinal(cents)}"
    if form == 2 and dollars > 1:
        return f"{numbers.cardinal(dollars)} {_choice(rng, ('pounds', 'euros', 'dollars'))}"
    return f"{numbers.cardinal(dollars)} {dollar}"


def _digits(rng: np.random.Generator, low: int, high: int) -> str:
    count = int(rng.integers(low, high + 1))
    return numbers.digits(
        "".join(map(str, rng.integers(0, 10, count))), zero=_choice(rng, ("zero", "oh"))
    )


def _phone_number(rng: np.random.Generator) -> str:
    groups = _choice(rng, ((3, 4), (3, 3, 4), (4, 3), (2, 2, 2)))
    return ", ".join(_digits(rng, size, size) for size in groups)


def _spelled(rng: np.random.Generator) -> str:
    count = int(rng.integers(2, 7))
    return " ".join(f"<{letter}>" for letter in rng.choice(list(LETTERS), count))


def _amount(rng: np.random.Generator) -> str:
    return numbers.cardinal(int(np.exp(rng.uniform(0.0, np.log(1000.0)))))


def _big(rng: np.random.Generator) -> str:
    size = 10 ** int(rng.integers(2, 10))
    return numbers.cardinal(int(rng.integers(1, 1000)) * size)


_MADE = {
    "digit": lambda rng: numbers.cardinal(int(rng.integers(0, 10))),
    "teen": lambda rng: numbers.cardinal(int(rng.integers(2, 20))),
    "tens": lambda rng: numbers.cardinal(10 * int(rng.integers(1, 10))),
    "ordinal": lambda rng: numbers.ordinal(int(rng.integers(1, 32))),
    "day": lambda rng: numbers.ordinal(int(rng.integers(1, 32))),
    "year": lambda rng: numbers.year(int(rng.integers(1700, 2031))),
    "amount": _amount,
    "big": _big,
    "clock": _clock,
    "money": _money,
    "phone_number": _phone_number,
    "extension": lambda rng: _digits(rng, 3, 5),
    "area": lambda rng: _digits(rng, 3, 3),
    "zip": lambda rng: _digits(rng, 5, 5),
    "letter": lambda rng: f"<{_choice(rng, LETTERS)}>",
    "letters": _spelled,
    "nato_word": lambda rng: _choice(rng, NATO),
}
_REFERENCE = re.compile(r"\[(\w+)\]")


def _expand(name: str, rng: np.random.Generator) -> str:
    if name in _MADE:
        return _MADE[name](rng)
    return _REFERENCE.sub(lambda match: _expand(match[1], rng), _choice(rng, _alternatives(name)))


def generate(rng: np.random.Generator) -> str:
    """Generate a sentence.

    Args:
        rng: source of randomness.

    Returns:
        Lower-case words and commas; a letter that is said by its name stands in angle brackets.
    """
    kinds = list(_KINDS)
    weights = np.array(list(_KINDS.values()), np.float64)
    return _expand(kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))], rng)
