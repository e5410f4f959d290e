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
}

/** As OpenAI's. Chosen: far more than CLIP's 77 tokens, and little enough to tokenize. */
const MAX_PROMPT_CHARACTERS = 4000;
/** Chosen: far enough below 2^53 that seeds which count up stay whole numbers. */
const MAX_SEED = 2 ** 48;
/** Of a request without a seed. Chosen: short enough to be noted down. */
const RANDOM_SEEDS = 2 ** 32;

export const sizeName = ({ width, height }: PictureSize): string => `${width}x${height}`;

/**
 * Reads the body of POST /v1/images/generations: `prompt`, `n` (default 1), `size`, `response_format` (b64_json alone) and,
 * beyond OpenAI's API, `seed` (default: a random one). null counts as absent; other fields are ignored.
 *
 * @throws ApiError of status 400
 */
export function parseImageRequest(body: string, { sizes, maxImages }: ImageRequestLimits): ImageRequest {
  const json = parseObject(body);
  const { prompt } = json;
  const n = json["n"] ?? 1;
  const size = json["size"] ?? "auto";
  const format = json["response_format"] ?? "b64_json";
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
  if (format !== "b64_json") throw invalid("response_format", `response_format must be b64_json, got ${show(format)}.`);
  if (!isWhole(seed, 0, MAX_SEED)) {
    throw invalid("seed", `seed must be a whole number from 0 to ${MAX_SEED}, got ${show(seed)}.`);
  }
  return { prompt, n, size: chosen, seed };
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
