import { pluralOf } from "./english.js";

/**
 * What scenes show: concepts of the emoji pack that people would type first, each with the words for it.
 *
 * Between bars stand the pack's name, then the nouns that captions use, the usual one first; without nouns the name is the
 * noun. One with an asterisk is a mass or always plural: it takes no article, and a scene shows it once. What follows "#"
 * names all that comes after it, up to the next.
 */
const lines = `
  # animal
  monkey face: monkey | monkey | gorilla | orangutan | dog face: dog, puppy | dog | poodle: poodle, dog | wolf | fox
  raccoon | cat face: cat, kitten | cat | black cat: cat, black cat | lion | tiger face: tiger | tiger | leopard
  horse face: horse | horse | zebra | unicorn | deer | cow face: cow | cow | ox: bull, ox | pig face: pig | pig
  goat | ewe: sheep | ram | camel | llama | giraffe | elephant | rhinoceros: rhino | hippopotamus: hippo
  mouse face: mouse | mouse | hamster | rabbit face: rabbit, bunny | rabbit: rabbit, bunny | chipmunk: squirrel, chipmunk
  beaver | hedgehog | bat | bear | polar bear | koala: koala, koala bear | panda: panda, panda bear | sloth | otter | skunk
  kangaroo | turkey | chicken: chicken, hen | rooster | hatching chick: chick, hatching chick | baby chick: chick | bird
  penguin | dove: dove, pigeon | eagle | duck | swan | owl | flamingo | peacock | parrot | goose | frog
  crocodile: crocodile, alligator | turtle: turtle, tortoise | lizard | snake | dragon | dinosaur | t-rex: t-rex, dinosaur
  spouting whale: whale | whale | dolphin | seal | fish | tropical fish: fish, tropical fish | blowfish: blowfish, fish
  shark | octopus | spiral shell: shell, seashell | jellyfish | crab | lobster | shrimp | squid | snail | butterfly | ant
  bee | ladybug | spider | scorpion | beetle
  # plant
  bouquet: bouquet, bunch of flowers | cherry blossom: blossom, cherry blossom, flower | rose: rose, flower
  sunflower: sunflower, flower | tulip: tulip, flower | hibiscus: flower, hibiscus | potted plant: plant, potted plant
  pine tree: pine tree, tree | tree | palm tree | cactus | four leaf clover: clover, four leaf clover
  maple leaf: leaf, maple leaf | mushroom
  # fruit
  grapes: grapes* | melon | watermelon | tangerine: orange, tangerine | lemon | banana | pineapple | mango
  red apple: apple | green apple: apple | pear | peach | cherries: cherries* | strawberry | blueberries: blueberries*
  kiwi fruit: kiwi | coconut
  # vegetable
  tomato | avocado | eggplant | potato | carrot | ear of corn: ear of corn
  hot pepper: chili pepper | bell pepper: pepper, bell pepper | cucumber | broccoli: broccoli* | onion
  #
  bread: bread*, loaf of bread | croissant | baguette | pretzel | bagel | pancakes: pancakes* | waffle
  cheese wedge: cheese*, piece of cheese | hamburger: burger, hamburger | french fries: fries*, french fries*
  pizza: slice of pizza, pizza | hot dog | sandwich | taco | burrito | egg | frying pan with egg: fried egg, frying pan
  popcorn: popcorn* | ice cream cone: ice cream, ice cream cone | bowl of ice cream: bowl of ice cream, ice cream
  doughnut: donut, doughnut | cookie | birthday cake: cake, birthday cake | shortcake: piece of cake, cake
  cupcake: cupcake, muffin | pie | chocolate bar | candy: candy*, piece of candy | lollipop | honey pot: honey pot
  cup of coffee: cup of coffee, coffee cup | teapot | wine glass: glass of wine, wine glass | cocktail glass: cocktail
  tropical drink: drink, tropical drink | beer mug: beer, mug of beer | glass of milk | cup with straw: drink, soda
  kitchen knife: knife | spoon
  globe showing americas: globe, planet earth | mountain | volcano | house: house, home | house with garden: house, home
  hut | castle | church | tent | fountain | ferris wheel | hospital | school
  # vehicle
  locomotive: steam train, train | train | tram | bus | fire engine: fire truck, fire engine | ambulance | police car | taxi: taxi, cab | car: car
  racing car: race car, racing car | delivery truck: truck | pickup truck: pickup truck, truck | tractor
  motorcycle: motorcycle, motorbike | motor scooter: scooter | bicycle: bicycle, bike
  sailboat: sailboat, boat | speedboat: speedboat, boat
  canoe: canoe, boat | ship | airplane: airplane, plane | helicopter | parachute | rocket
  #
  ufo: ufo, flying saucer | skateboard | stop sign | vertical traffic light: traffic light | anchor | lifebuoy
  satellite | suitcase | hourglass | watch | alarm clock: clock, alarm clock | crescent moon: moon, crescent moon
  full moon: moon, full moon | sun | sun with face: sun | star | ringed planet: planet, saturn | cloud | rainbow
  umbrella | lightning bolt: lightning bolt | snowflake | snowman | fire: fire, flame | droplet: drop of water
  tornado
  pumpkin | christmas tree: christmas tree, tree | balloon | gift box: gift, present | trophy | soccer ball: soccer ball, ball
  baseball: baseball, ball | basketball: basketball, ball | volleyball: volleyball, ball
  american football: football, american football | boxing glove | bullseye: target, dartboard | kite | crystal ball
  magic wand | video game: game controller | joystick | slot machine | puzzle piece | teddy bear: teddy bear, teddy
  artist palette: palette, paint palette | yarn: ball of yarn | bowling: bowling ball | sports medal: medal
  grinning face: smiley, smiling face, face | smiling face with sunglasses: face with sunglasses, smiley
  smiling face with heart-eyes: face with heart eyes, smiley | crying face | angry face
  face with tears of joy: laughing face | sleeping face | thinking face | winking face: winking face, smiley
  skull | ghost | alien | robot | pile of poo: poop* | clown face: clown | red heart: heart | blue heart: heart
  pink heart: heart | broken heart
  glasses: glasses* | sunglasses: sunglasses* | necktie: tie, necktie | t-shirt: t-shirt, shirt | jeans: jeans* | scarf
  gloves: gloves* | coat: coat, jacket | socks: socks* | dress | bikini | handbag: handbag, bag, purse | backpack
  mans shoe: shoe | running shoe: sneaker, shoe, running shoe | high-heeled shoe: high heel, shoe | womans boot: boot
  crown | top hat: top hat, hat | womans hat: hat | graduation cap | billed cap: cap, hat | lipstick | ring
  diamond: diamond, gem | bell | megaphone | microphone | headphone: headphones* | radio | saxophone | trumpet | accordion
  guitar | violin | banjo | drum | musical keyboard: piano, keyboard | musical note: musical note, note
  phone: phone, smartphone | telephone: telephone, phone | battery | laptop: laptop, computer
  desktop computer: computer | printer | floppy disk | television: tv, television | camera
  movie camera | magnifying glass tilted left: magnifying glass | candle | light bulb: light bulb, lamp
  flashlight | red paper lantern: lantern | open book: book, open book | closed book: book | books: books* | newspaper
  scroll | money bag: money bag, bag of money | coin | envelope: letter, envelope | package: box, package
  closed mailbox with raised flag: mailbox | pencil | pen | paintbrush: brush, paintbrush | crayon | briefcase
  file folder: folder | pushpin: pin, pushpin | paperclip | scissors: scissors* | padlock: lock, padlock | key | old key: key
  hammer | axe | dagger: dagger, sword | crossed swords: swords* | bomb | bow and arrow | shield | wrench | screwdriver | gear
  magnet | ladder | microscope | telescope | syringe | pill | test tube | door | bed | couch and lamp: sofa, couch | chair
  toilet | bathtub: bathtub, bath | window | broom | basket | bucket | toothbrush | soap: soap*, bar of soap
  shopping cart | fire extinguisher
`;

/** A word or phrase for a concept. */
export interface Noun {
  /** In the singular, or the plural of what has no singular: "cat", "jeans". */
  readonly singular: string;
  /** undefined where things of that name cannot be counted. */
  readonly plural?: string;
}

export interface Thing {
  /** The usual one first. */
  readonly nouns: readonly [Noun, ...Noun[]];
  /** What it is one of: "animal". */
  readonly category?: Noun;
}

/** By the pack's names, in the order above. */
export const things: ReadonlyMap<string, Thing> = readThings();

function readThings(): Map<string, Thing> {
  const read = new Map<string, Thing>();
  let category: Noun | undefined;
  for (const entry of lines.split(/[|\n]/).map((text) => text.trim())) {
    if (entry.startsWith("#")) category = entry === "#" ? undefined : readNoun(entry.slice(1).trim());
    else if (entry !== "") {
      const [name = "", nouns = name] = entry.split(":");
      const [first = "", ...others] = nouns.split(",").map((noun) => noun.trim());
      read.set(name, { nouns: [readNoun(first), ...others.map(readNoun)], ...(category && { category }) });
    }
  }
  return read;
}

function readNoun(text: string): Noun {
  return text.endsWith("*") ? { singular: text.slice(0, -1) } : { singular: text, plural: pluralOf(text) };
}
