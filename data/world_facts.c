// world_facts - what is true in the world: tables of kinds of things and their properties. Format: world.h.
#include "world.h"

static const char *const animals[] = {
    "owl|bird|forest|mice|feathers|flies|hoots", "robin|bird|garden|worms|feathers|flies|sings",
    "eagle|bird|mountains|rabbits|feathers|flies|screams", "duck|bird|pond|water plants|feathers|swims|quacks",
    "hen|bird|farm|grain|feathers|walks|clucks", "goose|bird|farm|grass|feathers|walks|hisses",
    "crow|bird|field|seeds|feathers|flies|caws", "gull|bird|sea|fish|feathers|flies|screams",
    "swallow|bird|barn|insects|feathers|flies|sings", "woodpecker|bird|forest|insects|feathers|flies|knocks",
    "frog|amphibian|pond|insects|smooth skin|hops|croaks", "toad|amphibian|garden|insects|smooth skin|hops|croaks",
    "newt|amphibian|pond|worms|smooth skin|swims|-",
    "trout|fish|river|insects|scales|swims|-", "shark|fish|sea|fish|scales|swims|-", "carp|fish|pond|water plants|scales|swims|-",
    "herring|fish|sea|tiny shrimps|scales|swims|-", "pike|fish|lake|fish|scales|swims|-",
    "cow|mammal|farm|grass|hair|walks|moos", "sheep|mammal|farm|grass|wool|walks|bleats", "goat|mammal|mountains|grass|hair|climbs|bleats",
    "horse|mammal|farm|hay|hair|runs|neighs", "pig|mammal|farm|roots|hair|walks|grunts", "dog|mammal|house|meat|fur|runs|barks",
    "cat|mammal|house|mice|fur|climbs|meows", "wolf|mammal|forest|meat|fur|runs|howls", "bear|mammal|forest|honey|fur|walks|growls",
    "fox|mammal|forest|rabbits|fur|runs|barks", "rabbit|mammal|field|carrots|fur|hops|-", "hare|mammal|field|grass|fur|hops|-",
    "squirrel|mammal|forest|nuts|fur|climbs|-", "mouse|mammal|barn|grain|fur|runs|squeaks", "bat|mammal|cave|insects|fur|flies|squeaks",
    "lion|mammal|grassland|meat|fur|runs|roars", "monkey|mammal|jungle|fruit|fur|climbs|chatters", "camel|mammal|desert|dry plants|hair|walks|-",
    "whale|mammal|sea|tiny shrimps|smooth skin|swims|sings", "seal|mammal|sea|fish|fur|swims|barks", "otter|mammal|river|fish|fur|swims|-",
    "deer|mammal|forest|leaves|hair|runs|-", "elephant|mammal|grassland|leaves|thick skin|walks|trumpets", "tiger|mammal|jungle|meat|fur|runs|roars",
    "bee|insect|hive|nectar|fine hairs|flies|buzzes", "fly|insect|house|rotten food|fine hairs|flies|buzzes", "butterfly|insect|garden|nectar|tiny scales|flies|-",
    "ant|insect|anthill|crumbs|hard shell|crawls|-", "beetle|insect|forest|leaves|hard shell|crawls|-", "cricket|insect|field|grass|hard shell|hops|chirps",
    "snake|reptile|desert|mice|scales|crawls|hisses", "lizard|reptile|desert|insects|scales|crawls|-", "turtle|reptile|sea|water plants|hard shell|swims|-",
    "crocodile|reptile|river|meat|scales|swims|growls", NULL,
};

static const char *const tools[] = {
    "hammer|tool|shed|drive a nail into a plank|drives nails", "saw|tool|shed|cut a board in two|cuts boards",
    "axe|tool|shed|chop down a tree|chops wood", "spade|tool|garden|dig a hole|digs holes", "rake|tool|garden|gather fallen leaves|gathers leaves",
    "broom|household thing|kitchen|sweep the floor|sweeps floors", "mop|household thing|kitchen|wipe up a puddle|wipes up puddles",
    "knife|household thing|kitchen|slice a loaf of bread|slices bread", "spoon|household thing|kitchen|eat soup|scoops soup",
    "kettle|household thing|kitchen|boil water|boils water", "pan|household thing|kitchen|fry an egg|fries eggs",
    "oven|household thing|kitchen|bake a cake|bakes cakes", "grater|household thing|kitchen|turn cheese into thin shreds|shreds cheese",
    "needle|sewing thing|sewing box|sew on a button|sews buttons", "+scissors|sewing thing|sewing box|cut paper into shapes|cut paper",
    "iron|household thing|laundry|smooth a wrinkled shirt|smooths shirts", "soap|household thing|bathroom|wash dirty hands|cleans hands",
    "towel|household thing|bathroom|dry wet hair|dries hair", "comb|household thing|bathroom|untangle long hair|untangles hair",
    "toothbrush|household thing|bathroom|clean the teeth|cleans teeth", "mirror|household thing|bathroom|look at the own face|shows faces",
    "ladder|tool|shed|reach the roof|reaches high places", "rope|tool|shed|tie a boat to a post|ties boats", "bucket|tool|garden|carry water from the well|carries water",
    "watering can|tool|garden|water the flowers|waters flowers", "brush|tool|workshop|paint a fence|paints fences", "+pliers|tool|workshop|pull out a bent nail|pull out nails",
    "drill|tool|workshop|make a hole in a wall|drills holes", "screwdriver|tool|workshop|tighten a screw|tightens screws", "sandpaper|tool|workshop|smooth rough wood|smooths wood",
    "glue|tool|workshop|join two pieces of broken wood|joins pieces", "pen|school thing|desk|write a letter|writes letters", "ruler|school thing|desk|measure a line|measures lines",
    "eraser|school thing|desk|rub out a pencil mark|rubs out marks", "stamp|school thing|desk|send a letter by mail|pays for letters", "map|school thing|desk|find the way in a strange land|shows the way",
    "compass|travel thing|backpack|find out where north is|points north", "tent|travel thing|backpack|sleep outdoors without getting wet|shelters sleepers", "lamp|household thing|hall|read in a dark room|lights rooms",
    "key|household thing|hall|open a locked door|opens locks", "clock|household thing|hall|know the time|tells the time", "thermometer|household thing|hall|know how warm it is|measures heat",
    "telescope|travel thing|attic|see the rings of a far planet|shows far stars", "magnifying glass|school thing|desk|see tiny legs of an ant|makes things look larger", "scale|household thing|kitchen|know how heavy a melon is|weighs things",
    "net|travel thing|boat|catch many fish|catches fish", "oar|travel thing|boat|row across a lake|rows boats", "sail|travel thing|boat|move a ship by wind|moves ships", "anchor|travel thing|boat|keep a ship in one place|holds ships",
    "umbrella|travel thing|hall|stay dry in the rain|keeps off rain", "bandage|household thing|bathroom|cover a cut finger|covers cuts", "refrigerator|household thing|kitchen|keep milk cold|cools food", NULL,
};

static const char *const foods[] = {
    "apple|fruit|sweet|tree|red", "pear|fruit|sweet|tree|green", "cherry|fruit|sweet|tree|red", "plum|fruit|sweet|tree|purple", "lemon|fruit|sour|tree|yellow",
    "orange|fruit|sweet|tree|orange", "banana|fruit|sweet|tree|yellow", "peach|fruit|sweet|tree|orange", "strawberry|fruit|sweet|garden bed|red", "grape|fruit|sweet|vine|purple",
    "carrot|vegetable|mild|soil|orange", "potato|vegetable|mild|soil|brown", "onion|vegetable|sharp|soil|white", "radish|vegetable|sharp|soil|red", "turnip|vegetable|mild|soil|white",
    "cabbage|vegetable|mild|garden bed|green", "pepper|vegetable|sharp|garden bed|red", "bean|vegetable|mild|vine|green", "pumpkin|vegetable|mild|vine|orange", "olive|fruit|bitter|tree|green",
    "~milk|drink|mild|cow|white", "~cream|dairy food|mild|cow|white", "~butter|dairy food|salty|cow|yellow", "~cheese|dairy food|salty|cow|yellow", "~honey|spread|sweet|hive|yellow",
    "~jam|spread|sweet|kitchen pot|red", "~coffee|drink|bitter|bush|black", "~tea|drink|bitter|bush|brown", "~cocoa|drink|bitter|bush|brown", "~lemonade|drink|sour|kitchen pot|yellow",
    "~bread|baked food|mild|bakery|brown", "cake|baked food|sweet|bakery|white", "biscuit|baked food|sweet|bakery|brown", "pretzel|baked food|salty|bakery|brown", "~vinegar|seasoning|sour|cellar barrel|brown",
    "~salt|seasoning|salty|sea|white", "~sugar|seasoning|sweet|cane|white", "~mustard|seasoning|sharp|seed|yellow", "~seaweed|vegetable|salty|sea|green", "pickle|vegetable|sour|cellar barrel|green", NULL,
};

static const char *const jobs[] = {
    "baker|bakery|oven|bakes bread|flour", "teacher|school|blackboard|teaches children|books", "doctor|hospital|stethoscope|heals sick people|medicine",
    "farmer|farm|plough|grows wheat|seeds", "fisherman|harbour|net|catches fish|bait", "carpenter|workshop|saw|builds tables|wood",
    "blacksmith|forge|anvil|makes horseshoes|iron", "tailor|sewing room|needle|sews suits|cloth", "gardener|garden|spade|plants flowers|bulbs",
    "painter|studio|brush|paints pictures|colours", "judge|court|law book|decides cases|evidence", "librarian|library|catalogue|lends books|shelves",
    "cook|restaurant|frying pan|prepares meals|vegetables", "miner|mine|pickaxe|digs coal|rock", "sailor|ship|compass|sails the sea|ropes",
    "pilot|airport|control stick|flies planes|fuel", "dentist|dental office|drill|repairs teeth|fillings", "butcher|butcher shop|cleaver|cuts meat|sausages",
    "potter|pottery|wheel|shapes bowls|clay", "shepherd|hillside|staff|guards sheep|wool", "miller|mill|millstone|grinds grain|grain",
    "postman|post office|mail bag|brings letters|letters", "barber|barber shop|scissors|cuts hair|hair", "musician|concert hall|violin|plays music|notes",
    "soldier|fort|shield|defends the town|armour", "clerk|bank|ledger|counts money|coins", "astronomer|observatory|telescope|watches stars|star charts",
    "beekeeper|apple orchard|veil|keeps bees|beeswax", "glassblower|glass works|blowpipe|makes bottles|sand", "shoemaker|shoe shop|last|mends boots|leather", NULL,
};

static const char *const things[] = {
    "table|wood|furniture|kitchen|hard", "chair|wood|furniture|kitchen|hard", "shelf|wood|furniture|study|hard", "chest|wood|furniture|attic|heavy", "bed|wood|furniture|bedroom|soft",
    "sofa|leather|furniture|living room|soft", "window|glass|part of a house|living room|fragile", "bottle|glass|container|cellar|fragile", "vase|glass|container|living room|fragile", "jar|glass|container|cellar|fragile",
    "coin|metal|money|purse|hard", "nail|metal|hardware|workshop|sharp", "anchor|metal|ship part|harbour|heavy", "bell|metal|instrument|church|loud", "trumpet|metal|instrument|music room|loud",
    "drum|leather|instrument|music room|loud", "violin|wood|instrument|music room|fragile", "flute|wood|instrument|music room|light", "shirt|cloth|clothing|wardrobe|soft", "coat|wool|clothing|wardrobe|warm",
    "scarf|wool|clothing|wardrobe|warm", "sock|wool|clothing|wardrobe|warm", "boot|leather|clothing|hall|hard", "glove|leather|clothing|hall|warm", "belt|leather|clothing|wardrobe|flexible",
    "curtain|cloth|furnishing|living room|soft", "blanket|wool|furnishing|bedroom|warm", "pillow|cloth|furnishing|bedroom|soft", "carpet|wool|furnishing|living room|soft", "flag|cloth|sign|tower|light",
    "book|paper|reading matter|study|flexible", "newspaper|paper|reading matter|study|light", "letter|paper|reading matter|desk|light", "kite|paper|toy|attic|light", "doll|cloth|toy|nursery|soft",
    "ball|rubber|toy|nursery|round", "balloon|rubber|toy|nursery|light", "tyre|rubber|car part|garage|round", "brick|clay|building material|building site|heavy", "flowerpot|clay|container|garden|fragile",
    "tile|clay|building material|roof|hard", "statue|stone|decoration|park|heavy", "millstone|stone|machine part|mill|heavy", "bench|wood|furniture|park|hard", "candle|wax|light|drawer|soft",
    "sword|metal|weapon|castle|sharp", "razor|metal|bathroom thing|bathroom|sharp", "plate|clay|dish|kitchen|fragile", "wheel|wood|cart part|barn|round", "feather quill|feather|writing thing|desk|light", NULL,
};

static const char *const changes[] = {
    "ice|is warmed|melts into water", "water|is cooled far below freezing|turns into ice", "water|is boiled|becomes steam", "iron|gets wet and stands in the air|rusts",
    "paper|is held in a flame|burns to ash", "a seed|is planted and watered|sprouts", "a plant|gets no water|withers", "milk|stays in the warm sun for days|turns sour",
    "cream|is shaken for a long time|becomes butter", "grape juice|is kept in a barrel for years|becomes wine", "flour|is mixed with water|becomes dough", "dough|is baked|becomes bread",
    "wax|is heated|becomes soft and drips", "sugar|is stirred into hot tea|dissolves", "sand|is melted in a furnace|becomes glass", "clay|is fired in a kiln|hardens into pottery",
    "a caterpillar|rests in its cocoon|becomes a butterfly", "a tadpole|grows up|becomes a frog", "an egg|is boiled|gets firm inside", "a glass|falls on stone|breaks into pieces",
    "a balloon|is pricked with a pin|bursts", "a magnet|is held near an iron nail|pulls the nail", "a stone|is thrown into a pond|sinks", "a cork|is thrown into a pond|floats",
    "a ball|is let go in the air|falls down", "wet cloth|hangs in the wind|dries", "a mirror|is held in the sun|throws back the light", "a bell|is struck|rings",
    "a guitar string|is plucked|hums", "bread|lies in a damp place|grows mould", "an apple|is cut and left in the air|turns brown", "wood|is put in a hot stove|burns and gives heat",
    "snow|lies in the spring sun|melts away", "a leaf|hangs on an oak in autumn|turns yellow and drops", "a shadow|is looked at in the evening|grows long", "soap|is rubbed with water|makes foam", NULL,
};

static const char *const places[] = {
    "library|borrow a book|books", "bank|change money|money", "school|learn to read|pupils", "market|buy vegetables|stalls", "station|take a train|trains", "hospital|see a doctor|nurses",
    "bakery|buy fresh bread|loaves", "beach|build a sand castle|sand", "pool|swim laps|swimmers", "theatre|watch a play|actors", "museum|look at old paintings|paintings", "post office|mail a parcel|parcels",
    "airport|catch a plane|planes", "harbour|board a ship|ships", "park|feed the ducks|trees", "zoo|see a lion|cages", "farm|milk a cow|cows", "church|hear the organ|pews", "restaurant|order dinner|waiters",
    "barber shop|get a haircut|mirrors", "shoe shop|try on boots|boots", "toy shop|choose a doll|dolls", "stable|ride a horse|horses", "garage|have a car repaired|cars", "stadium|cheer a football team|players",
    "orchard|pick apples|apple trees", "forest|gather mushrooms|mushrooms", "mountain|climb to the peak|cliffs", "kitchen|cook supper|pots", "laundry|wash shirts|tubs", "court|hear a judge|lawyers", "hotel|rent a room for the night|guests", NULL,
};

static const char *const weathers[] = {
    "rain|umbrella|the streets get wet", "snow|sled|the hills turn white", "strong wind|kite|the leaves whirl about", "bright sun|straw hat|the grass gets dry", "thick fog|lantern|the ships lose their way", "hard frost|fur coat|the lake freezes over",
    "a thunderstorm|safe shelter|lightning strikes tall trees", "hail|strong roof|the crops are beaten down", "a flood|boat|the cellars fill with water", "a long drought|deep well|the river dries up", NULL,
};

// who: the subject of the cause where it has not been named. Cause and effect are whole sentences without the period;
static const char *const causes[] = {
    "{He P}|{P} forgot the umbrella in the rain|{he P} got wet", "{He P}|{P} worked in the field all day|{he P} was very tired", "{He P}|{P} ate nothing all day|{he P} was very hungry", "{He P}|{P} walked for hours in the hot sun|{he P} was very thirsty",
    "{He P}|{P} won the race at the {#fair}|{he P} got a gold medal", "{He P}|{P} lost the key of the house|{he P} could not open the door", "{He P}|{P} missed the train to {#town}|{he P} came home late", "{He P}|{P} slipped on the ice|{he P} broke {his P} leg",
    "{He P}|{P} ate too many sweet cakes|{he P} had a stomach ache", "{He P}|{P} stayed out in the cold wind|{he P} caught a cold", "{He P}|{P} studied hard for the test|{he P} got a good mark", "{He P}|{P} heard a funny joke|{he P} laughed loudly",
    "{He P}|{P} lost {his P} dear old {#pet}|{he P} cried", "{He P}|{P} saw a big spider in bed|{he P} screamed", "{He P}|{P} touched the hot stove|{he P} burned {his P} hand", "{He P}|{P} cut {his P} finger with a knife|{he P} needed a bandage",
    "{He P}|{P} saved the coins for a year|{he P} bought a new bicycle", "{He P}|{P} told a lie to {Q}|{he P} felt ashamed", "{He P}|{P} helped {Q} with the {#chore}|{he P} was thanked by {Q}", "{He P}|{P} heard a strange noise at night|{he P} could not sleep",
    "{He P}|{P} left the purse on the bench|{he P} had no money", "{He P}|{P} broke the law|{he P} was sent to jail", "{He P}|{P} read in very dim light|{he P} had sore eyes", "{He P}|{P} sang the whole {#time}|{he P} was hoarse",
    "{He P}|{P} carried heavy stones|{he P} had a sore back", "{He P}|{P} practised the violin every day|{he P} played beautifully", "{He P}|{P} ran up the steep hill|{he P} was out of breath", "{He P}|{P} was stung by a bee|{he P} had a swollen arm",
    "{He P}|{P} dug in the muddy garden|{he P} had dirty hands", "{He P}|{P} took a wrong turn in the forest|{he P} got lost", "{He P}|{P} got a letter from a dear friend|{he P} smiled happily", "{He P}|{P} put on a warm wool coat|{he P} did not freeze",
    "Someone|{P} dropped the {#fragile} on the stone floor|the {#fragile} broke", "Someone|{P} left the milk in the sun|the milk turned sour", "Someone|{P} forgot to water the {#plant}|the {#plant} withered", "Someone|{P} watered the {#plant} every day|the {#plant} grew tall",
    "Someone|{P} left the cake in the oven too long|the cake was burned", "Someone|{P} turned the switch of the lamp|the room became bright", "Someone|{P} blew out the candle|the room became dark", "Someone|{P} put the water in the freezer|the water turned to ice",
    "Someone|{P} lit a fire in the stove|the room became warm", "Someone|{P} opened the window in winter|the room became cold", "Someone|{P} left the bicycle out in the rain|the bicycle rusted", "Someone|{P} put too much salt into the soup|the soup tasted bad",
    "Someone|{P} washed the {#colour} {#cloth}|the {#cloth} was clean again", "Someone|{P} spilled ink on the {#cloth}|the {#cloth} had a stain", "Someone|{P} threw a stone at the window|the glass shattered", "Someone|{P} pricked the balloon with a needle|the balloon burst",
    "Someone|{P} forgot to feed the {#pet}|the {#pet} was hungry", "Someone|{P} stepped on the tail of the {#pet}|the {#pet} cried out", "Someone|{P} left the gate of the farm open|the sheep ran away", "Someone|{P} forgot to wind the clock|the clock stopped",
    "Someone|{P} did not tie the boat to the post|the boat drifted away", "Someone|{P} let go of the string|the kite flew away", "Someone|{P} wound up the toy car|the toy car rolled across the floor", "Someone|{P} planted a small seed|a flower came up",
    "Someone|{P} left butter near the fire|the butter melted", "Someone|{P} overloaded the old cart|a wheel broke off", "Someone|{P} rang the bell at night|the neighbours woke up", "Someone|{P} scattered bread on the ground|the birds came down to eat",
    "Someone|{P} cut the branch with a saw|the branch fell to the ground", "Someone|{P} struck the drum with a stick|a loud sound was heard", NULL,
};

static const char *const scripts[] = {
    "Making tea|is making tea|fills the kettle with water|puts the kettle on the stove|waits until the water boils|pours the hot water over the tea leaves|drinks the tea from a cup",
    "Planting a tree|is planting a tree|digs a deep hole|sets the young tree into the hole|fills the hole with earth|waters the roots|ties the trunk to a post",
    "Washing a dog|is washing a dog|fills a tub with warm water|lifts the dog into the tub|rubs soap into the fur|rinses the soap out of the fur|dries the dog with a towel",
    "Baking bread|is baking bread|mixes flour with water and yeast|kneads the dough|lets the dough rise|puts the loaf into the oven|takes the brown loaf out of the oven",
    "Building a campfire|is building a campfire|gathers dry sticks|piles up the sticks|lights the sticks with a match|roasts sausages over the flames|puts out the embers with water",
    "Mailing a letter|is mailing a letter|writes a letter at the desk|folds the letter into an envelope|sticks a stamp on the envelope|walks to the post office|drops the envelope into the mail box",
    "Painting a fence|is painting a fence|brushes the dirt off the boards|opens a can of paint|dips the brush into the paint|spreads the paint over the boards|lets the paint dry",
    "Catching fish|is catching fish|walks to the river with a rod|puts a worm on the hook|throws the line into the water|waits for a fish to bite|pulls the fish out of the water",
    "Sewing a button|is sewing on a button|finds a button of the right colour|puts the thread through the needle|pushes the needle through the cloth|ties a knot in the thread|cuts off the end of the thread",
    "Making soup|is making soup|peels the carrots and potatoes|chops them into small pieces|throws the pieces into a pot of water|lets the pot simmer for an hour|ladles the soup into bowls",
    "Changing a tyre|is changing a tyre|stops the car at the roadside|lifts the car with a jack|takes off the flat tyre|puts on the spare tyre|tightens the bolts",
    "Brushing teeth|is brushing the teeth|squeezes toothpaste on the brush|scrubs every tooth|spits out the foam|rinses the mouth with water|puts the toothbrush away",
    "Taking a train|is taking a train|goes to the station|buys a ticket at the counter|waits on the platform|steps into the carriage|shows the ticket to the conductor",
    "Milking a cow|is milking a cow|leads the cow into the barn|sits down on a low stool|sets the bucket under the cow|squeezes the milk into the bucket|carries the milk to the dairy",
    "Ironing a shirt|is ironing a shirt|unfolds the ironing board|heats up the iron|lays the shirt on the board|smooths out the wrinkles|hangs the shirt on a hanger",
    "Playing football|is playing football|puts on the football boots|runs onto the field|gets the ball from a friend|shoots the ball at the goal|cheers about the goal",
    "Going to bed|is going to bed|puts on pyjamas|turns off the lamp|lies down under the blanket|closes both eyes|falls asleep",
    "Picking apples|is picking apples|leans a ladder against the tree|climbs up among the branches|puts the ripe apples into a basket|climbs down with the full basket|stores the apples in the cellar",
    "Borrowing a book|is borrowing a book|enters the library|looks along the shelves|chooses a thick book|shows the library card|takes the book home to read",
    "Frying eggs|is frying eggs|melts butter in a pan|cracks the eggs on the rim|drops the eggs into the hot pan|sprinkles salt on the eggs|slides the eggs onto a plate",
    "Wrapping a present|is wrapping a present|puts the present into a box|rolls out the coloured paper|folds the paper around the box|ties a ribbon around the parcel|writes a name on a card",
    "Doing laundry|is doing the laundry|sorts the dirty clothes|puts the clothes into the washing tub|scrubs the clothes with soap|wrings out the wet clothes|hangs the clothes on the line",
    "Riding a horse|is riding a horse|brushes the coat of the horse|puts the saddle on its back|climbs into the saddle|takes hold of the reins|gallops across the meadow",
    "Building a snowman|is building a snowman|rolls a big ball of snow|sets a smaller ball on top|puts in coal for the eyes|sticks in a carrot for the nose|sets an old hat on its head",
    "Sailing a boat|is sailing a boat|unties the boat from the pier|hoists the white sail|steers out onto the lake|turns the boat back to the shore|lowers the sail at the pier",
    "Growing beans|is growing beans|loosens the soil with a rake|drops the beans into the furrow|covers the beans with soil|pulls out the weeds in early summer|harvests the long pods",
    "Visiting a doctor|is visiting a doctor|calls the doctor for an appointment|sits in the waiting room|tells the doctor about the pain|swallows the bitter medicine|feels healthy again",
    "Shearing a sheep|is shearing a sheep|catches a sheep in the pen|holds the sheep between the knees|clips off the thick wool|lets the bare sheep go|packs the wool into a sack",
    "Making pottery|is making pottery|kneads a lump of wet clay|throws the clay on the wheel|shapes the clay into a bowl|fires the bowl in the kiln|paints the finished bowl",
    "Cleaning a window|is cleaning a window|fills a bucket with soapy water|wets the dusty glass with a sponge|wipes the glass from side to side|polishes the glass with newspaper|looks through the clear glass",
    "Setting up a tent|is setting up a tent|looks for a flat piece of ground|unrolls the tent|pushes the poles through the loops|hammers the pegs into the ground|spreads a sleeping bag inside",
    "Flying a kite|is flying a kite|builds a kite of sticks and paper|waits for a windy day|runs against the wind|lets out more and more string|winds the string up again", NULL,
};

const world_table world_tables[] = {
    { "animal", "name|class|home|food|cover|move|sound", animals },
    { "tool", "name|kind|place|goal|does", tools },
    { "food", "name|kind|taste|source|colour", foods },
    { "job", "name|place|tool|does|stuff", jobs },
    { "thing", "name|material|kind|room|quality", things },
    { "change", "name|when|result", changes },
    { "place", "name|act|sight", places },
    { "weather", "name|need|effect", weathers },
    { "cause", "who|cause|effect", causes },
    { "script", "name|doing|1|2|3|4|5", scripts },
    { NULL, NULL, NULL },
};
