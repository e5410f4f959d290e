import { randomInt } from "node:crypto";
import type { PictureSize } from "@sdxs/runtime";
import { ApiError, invalid } from "./api-error.js";

/** What a client may ask for. */
export interface ImageRequestLimits {
  /** The first is the default. Each is a network compiled and kept, so there are only these. */
  readonly sizes: readonly PictureSize[];
  /** Pictures of one request. */
  readonly maxImages: number;
}

export interface ImageRequest {
  readonly prompt: string;
  readonly n: number;
  readonly size: PictureSize;
  readonly seed: number;
  /** Fields that have no effect here, each with what it says. */
  readonly warnings: readonly string[];
}

/** Fields of OpenAI's API that could ask for another answer, with the values that ask for the one given here. */
const FIXED: Readonly<Record<string, readonly unknown[]>> = {
  response_format: ["b64_json"],
  output_format: ["png"],
  output_compression: [100],
  background: ["auto", "opaque"],
  stream: [false],
  partial_images: [0],
};
/** Fields of OpenAI's API that ask for more or less of the same: other values than these have no effect, which is said. */
const WITHOUT_EFFECT: Readonly<Record<string, readonly unknown[]>> = {
  quality: ["auto", "standard"],
  style: ["auto"],
  moderation: ["auto"],
};
/** What is read, and what names who is asked and who asks. */
const READ: readonly string[] = ["prompt", "n", "size", "seed", "model", "user"];

/** As OpenAI's. Chosen: far more than CLIP's 77 tokens, and little enough to tokenize. */
const MAX_PROMPT_CHARACTERS = 4000;
/** Chosen: far enough below 2^53 that seeds which count up stay whole numbers. */
const MAX_SEED = 2 ** 48;
/** Of a request without a seed. Chosen: short enough to be noted down. */
const RANDOM_SEEDS = 2 ** 32;

export const sizeName = ({ width, height }: PictureSize): string => `${width}x${height}`;

/**
 * Reads the body of POST /v1/images/generations: `prompt`, `n` (default 1), `size`, `response_format` (b64_json alone) and,
 * beyond OpenAI's API, `seed` (default: a random one). null counts as absent. Other fields of that API are taken where they ask for
 * what is given anyway; `quality`, `style` and `moderation` are warned of, all others refused.
 *
 * @throws ApiError of status 400
 */
export function parseImageRequest(body: string, { sizes, maxImages }: ImageRequestLimits): ImageRequest {
  const json = parseObject(body);
  const warnings = checkFields(json);
  const { prompt } = json;
  const n = json["n"] ?? 1;
  const size = json["size"] ?? "auto";
  const seed = json["seed"] ?? randomInt(RANDOM_SEEDS);

  if (typeof prompt !== "string") throw invalid("prompt", "prompt must be a text.");
  if (prompt.length > MAX_PROMPT_CHARACTERS) {
    throw invalid("prompt", `prompt must have at most ${MAX_PROMPT_CHARACTERS} characters, got ${prompt.length}.`);
  }
  if (!isWhole(n, 1, maxImages)) throw invalid("n", `n must be a whole number from 1 to ${maxImages}, got ${show(n)}.`);
  const chosen = size === "auto" ? sizes[0] : sizes.find((one) => sizeName(one) === size);
  if (chosen === undefined) {
    throw invalid("size", `size must be one of ${sizes.map(sizeName).join(", ")}, got ${show(size)}.`);
  }
  if (!isWhole(seed, 0, MAX_SEED)) {
    throw invalid("seed", `seed must be a whole number from 0 to ${MAX_SEED}, got ${show(seed)}.`);
  }
  return { prompt, n, size: chosen, seed, warnings };
}

/** Throws for a field that asks for what is not given here, and tells those that have no effect. */
function checkFields(json: Readonly<Record<string, unknown>>): string[] {
  const warnings: string[] = [];
  for (const [name, value] of Object.entries(json)) {
    if (value === null || READ.includes(name)) continue;
    const fixed = Object.hasOwn(FIXED, name) ? FIXED[name] : undefined;
    const effectless = Object.hasOwn(WITHOUT_EFFECT, name) ? WITHOUT_EFFECT[name] : undefined;
    if (fixed !== undefined && !fixed.includes(value)) {
      throw invalid(name, `${name} must be ${fixed.map(String).join(" or ")}, got ${show(value)}.`);
    }
    if (effectless !== undefined && !effectless.includes(value)) {
      warnings.push(`${name} has no effect here, got ${show(value)}.`);
    }
    if (fixed === undefined && effectless === undefined) {
      const message = `There is no field ${show(name)}. Known: ${[...READ, ...Object.keys({ ...FIXED, ...WITHOUT_EFFECT })].join(", ")}.`;
      throw new ApiError(400, { message, param: name.slice(0, 100), code: "unknown_parameter" });
    }
  }
  return warnings;
}

function parseObject(body: string): Readonly<Record<string, unknown>> {
  try {
    const json: unknown = JSON.parse(body);
    if (typeof json === "object" && json !== null && !Array.isArray(json)) return { ...json };
  } catch {
    // not JSON at all
  }
  throw new ApiError(400, { message: "The body must be a JSON object.", code: "invalid_json" });
}

const isWhole = (value: unknown, least: number, most: number): value is number =>
  Number.isInteger(value) && (value as number) >= least && (value as number) <= most;

/** A value in a message, cut where it is long. */
const show = (value: unknown): string => JSON.stringify(value).slice(0, 100);
