import { captionWords, composeCaption, type ColourName } from "./captions.js";
import { type EmojiStyle } from "../../emoji-styles.js";

/** Concepts of the quickstart: recognisable at 64 pixels in every style, and unlike one another. */
export const quickstartConcepts: readonly string[] = [
  // animals
  ..."cat face|dog face|panda|lion|fox|frog|pig face|elephant|penguin|owl|whale".split("|"),
  ..."tropical fish|butterfly|ladybug".split("|"),
  // plants
  ..."rose|sunflower|cactus|palm tree|mushroom".split("|"),
  // food
  ..."red apple|banana|watermelon|strawberry|pineapple|carrot|hamburger|pizza|doughnut".split("|"),
  ..."birthday cake|ice cream cone".split("|"),
  // travel, sky
  ..."car|bus|airplane|rocket|sailboat|house|sun|crescent moon|rainbow|star|snowman|fire|umbrella".split("|"),
  // things
  ..."guitar|soccer ball|alarm clock|balloon|red heart|ghost|robot|pumpkin".split("|"),
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

/** Every word of the quickstart's captions: `EmojiDataset.words`, without the pictures. */
export const quickstartWords: ReadonlySet<string> = new Set(
  quickstartConcepts.flatMap((name) =>
    quickstartStyles.flatMap((style) =>
      quickstartColours.flatMap((colour) => captionWords(composeCaption({ subject: `a ${name}`, style, colour }))),
    ),
  ),
);

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
