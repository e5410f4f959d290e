import type { ColourName, EmojiStyle } from "./captions.js";

/** Concepts of the quickstart: recognisable at 64 pixels in every style, and unlike one another. */
export const quickstartConcepts: readonly string[] = [
  // animals
  ..."cat face|dog face|panda|lion|tiger face|fox|frog|pig face|cow face|mouse face|rabbit face|monkey face".split("|"),
  ..."elephant|giraffe|zebra|penguin|owl|flamingo|baby chick|turtle|snake|octopus|whale|shark".split("|"),
  ..."tropical fish|crab|butterfly|bee|ladybug".split("|"),
  // plants
  ..."rose|tulip|sunflower|cactus|palm tree|pine tree|tree|four leaf clover|maple leaf|mushroom".split("|"),
  // food
  ..."red apple|green apple|banana|grapes|watermelon|lemon|pineapple|cherries|strawberry|carrot".split("|"),
  ..."avocado|hamburger|french fries|pizza|hot dog|doughnut|birthday cake|cupcake".split("|"),
  ..."ice cream cone|popcorn|beer mug|wine glass|cup of coffee".split("|"),
  // travel, sky
  ..."car|bus|fire engine|tractor|bicycle|locomotive|airplane|helicopter|rocket|ufo|sailboat".split("|"),
  ..."house|castle|volcano|rainbow|sun|crescent moon|star|cloud|snowflake|snowman|fire|umbrella".split("|"),
  // things
  ..."guitar|trumpet|soccer ball|basketball|trophy|balloon|gift box|teddy bear|christmas tree".split("|"),
  ..."alarm clock|light bulb|key|scissors|hammer|pencil|books|camera|television|bell|crown|backpack".split("|"),
  // hearts, faces
  ..."red heart|smiling face with sunglasses|ghost|alien|robot|skull|clown face|pumpkin".split("|"),
];

/** The two colourful styles that are drawn least alike. */
export const quickstartStyles: readonly EmojiStyle[] = ["noto", "fluent-flat"];

export const quickstartColours: readonly ColourName[] = [
  "white",
  "red",
  "orange",
  "yellow",
  "green",
  "blue",
  "purple",
  "pink",
];

/** Ten prompts that show the quickstart's model: different things, both styles, every background. */
export const quickstartPrompts: readonly string[] = [
  "a red apple, flat style, on a blue background",
  "a cat face, noto style, on a pink background",
  "a rocket, flat style, on a purple background",
  "a sunflower, noto style, on a blue background",
  "a pizza, flat style, on a green background",
  "a penguin, noto style, on an orange background",
  "a car, noto style, on a yellow background",
  "a butterfly, flat style, on a white background",
  "a guitar, flat style, on a yellow background",
  "a red heart, noto style, on a white background",
];
