import { InvalidArgumentError } from "@sdxs/tensor";
import { blockRemovalPresets, publishedUNets, type BlockRemoval, type BlockRemovalPreset } from "@sdxs/tiny-unet";
import { wholeNumber } from "./train-arguments.js";
import { readOptions } from "./command.js";

export interface BlockArguments {
  /** A name in `publishedUNets`, or the path of a diffusers UNet2DConditionModel config.json. */
  readonly teacher: string;
  /** undefined: only the teacher is counted. */
  readonly removal: BlockRemoval | undefined;
  /** Of the latents. undefined: the size that the teacher was trained for. */
  readonly size: { readonly height: number; readonly width: number } | undefined;
  readonly tokens: number;
  /** Put the tables into docs/block-removal.md, whatever else is asked for. */
  readonly write: boolean;
}

export const BLOCKS_USAGE = `Usage: npm run table:blocks -- --teacher NAME [options]
  --teacher NAME    ${Object.keys(publishedUNets).join(", ")},
                    or the path of a diffusers UNet2DConditionModel config.json
  --preset NAME     ${Object.keys(blockRemovalPresets).join(", ")}; or, or besides:
  --removed-levels N                how many levels go, lowest resolution first
  --mid WHAT                        keep, residual-block or remove
  --layers N,N,...                  residual blocks that stay in each down stage; up stages keep one more
  --transformers N,N,...            transformer blocks that stay behind each residual block; N/N gives each its own
  --up-transformers N,N,...         the same for the up stages alone
  --only-cross-attention true,...   levels whose self-attention looks at the text instead
                    Lists go from the highest resolution to the lowest; what they do not reach stays.
  --size HxW        height x width of the latents; default: what the teacher was trained for
  --tokens N        of the text, default 77
  --write           put the tables of the published models into docs/block-removal.md instead`;

/** @throws InvalidArgumentError that names the argument, what it must be and what came. */
export function parseBlockArguments(args: readonly string[]): BlockArguments {
  const { teacher, size, tokens, write, preset, ...own } = read(args);
  if (teacher === undefined && !write) throw new InvalidArgumentError("table:blocks: --teacher NAME is missing.");
  const sides = size === undefined ? undefined : /^(\d+)x(\d+)$/.exec(size);
  if (sides === null) {
    throw new InvalidArgumentError(
      `table:blocks: --size must be HEIGHTxWIDTH of the latents, as 64x64, got "${size}".`,
    );
  }
  const removal = { ...(preset === undefined ? {} : blockRemovalPresets[presetName(preset)]), ...ownRemoval(own) };
  return {
    teacher: teacher ?? "",
    removal: Object.keys(removal).length === 0 ? undefined : removal,
    size: sides && { height: wholeNumber("--size", sides[1]!, 1), width: wholeNumber("--size", sides[2]!, 1) },
    tokens: wholeNumber("--tokens", tokens, 1),
    write,
  };
}

const read = (args: readonly string[]) =>
  readOptions("table:blocks", args, {
    teacher: { type: "string" },
    preset: { type: "string" },
    "removed-levels": { type: "string" },
    mid: { type: "string" },
    layers: { type: "string" },
    transformers: { type: "string" },
    "up-transformers": { type: "string" },
    "only-cross-attention": { type: "string" },
    size: { type: "string" },
    tokens: { type: "string", default: "77" },
    write: { type: "boolean", default: false },
  });

function ownRemoval(
  options: Omit<ReturnType<typeof read>, "teacher" | "preset" | "size" | "tokens" | "write">,
): BlockRemoval {
  const given = <V>(text: string | undefined, name: string, value: (text: string) => V): Record<string, V> =>
    text === undefined ? {} : { [name]: value(text) };
  const list =
    <V>(element: (text: string) => V) =>
    (text: string): V[] =>
      text.split(",").map(element);
  const depths = (flag: string) =>
    list((text) => {
      const counts = text.split("/").map((count) => wholeNumber(flag, count, 0));
      return counts.length === 1 ? counts[0]! : counts;
    });
  return {
    ...given(options["removed-levels"], "removedLevels", (text) => wholeNumber("--removed-levels", text, 0)),
    ...given(options.mid, "midStage", (text) => oneOf("--mid", text, ["keep", "residual-block", "remove"])),
    ...given(
      options.layers,
      "layersPerBlock",
      list((text) => wholeNumber("--layers", text, 1)),
    ),
    ...given(options.transformers, "transformerLayers", depths("--transformers")),
    ...given(options["up-transformers"], "upTransformerLayers", depths("--up-transformers")),
    ...given(
      options["only-cross-attention"],
      "onlyCrossAttention",
      list((text) => oneOf("--only-cross-attention", text, ["true", "false"]) === "true"),
    ),
  };
}

const presetName = (name: string): BlockRemovalPreset =>
  oneOf("--preset", name, Object.keys(blockRemovalPresets) as BlockRemovalPreset[]);

function oneOf<V extends string>(flag: string, text: string, values: readonly V[]): V {
  const found = values.find((value) => value === text);
  if (found !== undefined) return found;
  throw new InvalidArgumentError(`table:blocks: ${flag} must be one of ${values.join(", ")}, got "${text}".`);
}
