import { describe, expect, it } from "vitest";
import { parseImageRequest } from "./image-request.js";

const sizes = [
  { width: 16, height: 8 },
  { width: 32, height: 32 },
];
const parse = (json: unknown) => parseImageRequest(JSON.stringify(json), { sizes, maxImages: 4 });

describe("parseImageRequest", () => {
  it("reads what is asked for", () => {
    const request = { prompt: "red", n: 2, size: "32x32", seed: 5, response_format: "b64_json" };
    expect(parse(request)).toEqual({ prompt: "red", n: 2, size: sizes[1], seed: 5, warnings: [] });
  });

  it("takes defaults, a random seed among them, for what is absent or null", () => {
    const defaults = { prompt: "red", n: 1, size: sizes[0], seed: expect.any(Number), warnings: [] };
    expect(parse({ prompt: "red", model: "dall-e-3", user: "somebody" })).toEqual(defaults);
    expect(parse({ prompt: "red", n: null, size: null, response_format: null, seed: null })).toEqual(defaults);
    expect(parse({ prompt: "red", size: "auto" })).toEqual(defaults);
    expect(parse({ prompt: "red", stream: null, background: null, nonsense: null })).toEqual(defaults);
    expect(parse({ prompt: "red" }).seed).not.toBe(parse({ prompt: "red" }).seed);
  });

  it("takes fields of OpenAI's API that ask for what is given anyway", () => {
    const anyway = { stream: false, background: "opaque", output_format: "png", partial_images: 0, quality: "auto" };
    expect(parse({ prompt: "red", ...anyway }).warnings).toEqual([]);
  });

  it("warns of those that have no effect", () => {
    expect(parse({ prompt: "red", quality: "hd", style: "vivid", moderation: "low" }).warnings).toEqual([
      'quality has no effect here, got "hd".',
      'style has no effect here, got "vivid".',
      'moderation has no effect here, got "low".',
    ]);
  });

  it.each(["negative_prompt", "steps", "Stream", "toString", "__proto__"])(
    "refuses %s, which it does not know",
    (name) => {
      expect(() => parseImageRequest(`{"prompt":"red","${name}":1}`, { sizes, maxImages: 4 })).toThrow(
        expect.objectContaining({
          status: 400,
          details: {
            message: expect.stringContaining(`There is no field "${name}". Known: prompt`),
            param: name,
            code: "unknown_parameter",
          },
        }),
      );
    },
  );

  it.each([
    [{ prompt: "red", stream: true }, "stream", "stream must be false, got true."],
    [
      { prompt: "red", background: "transparent" },
      "background",
      'background must be auto or opaque, got "transparent".',
    ],
    [{ prompt: "red", output_format: "webp" }, "output_format", 'output_format must be png, got "webp".'],
    [{ prompt: "red", output_compression: 50 }, "output_compression", "output_compression must be 100, got 50."],
    [{ prompt: "red", partial_images: 2 }, "partial_images", "partial_images must be 0, got 2."],
    [{}, "prompt", "prompt must be a text."],
    [{ prompt: ["red"] }, "prompt", "prompt must be a text."],
    [{ prompt: "x".repeat(4001) }, "prompt", "prompt must have at most 4000 characters, got 4001."],
    [{ prompt: "red", n: 5 }, "n", "n must be a whole number from 1 to 4, got 5."],
    [{ prompt: "red", n: "1" }, "n", 'n must be a whole number from 1 to 4, got "1".'],
    [{ prompt: "red", n: 1.5 }, "n", "n must be a whole number from 1 to 4, got 1.5."],
    [{ prompt: "red", size: "1024x1024" }, "size", 'size must be one of 16x8, 32x32, got "1024x1024".'],
    [{ prompt: "red", response_format: "url" }, "response_format", 'response_format must be b64_json, got "url".'],
    [{ prompt: "red", seed: -1 }, "seed", "seed must be a whole number from 0 to 281474976710656, got -1."],
  ])("refuses %j", (json, param, message) => {
    expect(() => parse(json)).toThrow(
      expect.objectContaining({ status: 400, details: { message, param, code: "invalid_value" } }),
    );
  });

  it.each(["", "{", "[]", "null", '"red"', "[".repeat(60_000)])("refuses what is no JSON object: %.10s", (body) => {
    const details = { message: "The body must be a JSON object.", code: "invalid_json" };
    expect(() => parseImageRequest(body, { sizes, maxImages: 4 })).toThrow(
      expect.objectContaining({ status: 400, details }),
    );
  });
});
