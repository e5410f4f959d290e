import { UnsupportedConfigError } from "../core/errors.js";
import { formatJson } from "../core/json.js";

/** The values that a field of a model's config.json may have. `expected` completes "supported: ...". */
export interface FieldType<V> {
  readonly expected: string;
  accepts(value: unknown): value is V;
}

const fieldType = <V>(expected: string, test: (value: unknown) => boolean): FieldType<V> => ({
  expected,
  accepts: (value): value is V => test(value),
});

/** A whole number of at least 1. */
export const positiveInteger = fieldType<number>(
  "a whole number of at least 1",
  (value) => typeof value === "number" && Number.isInteger(value) && value >= 1,
);

/** A whole number of at least 0. */
export const wholeNumber = fieldType<number>(
  "a whole number of at least 0",
  (value) => typeof value === "number" && Number.isInteger(value) && value >= 0,
);

/** A finite number. */
export const finiteNumber = fieldType<number>(
  "a number",
  (value) => typeof value === "number" && Number.isFinite(value),
);

/** true or false. */
export const flag = fieldType<boolean>("true or false", (value) => typeof value === "boolean");

/** One of the given values. */
export const oneOf = <const V extends string | number | boolean | null>(values: readonly V[]): FieldType<V> =>
  fieldType(values.map((value) => JSON.stringify(value)).join(" or "), (value) => values.some((one) => one === value));

/** A list of at least one element, each of the given type. */
export const listOf = <V>(element: FieldType<V>): FieldType<readonly V[]> =>
  fieldType(
    `a list, each element ${element.expected}`,
    (value) => Array.isArray(value) && value.length > 0 && value.every((one) => element.accepts(one)),
  );

/** Either of two types. */
export const either = <A, B>(a: FieldType<A>, b: FieldType<B>): FieldType<A | B> =>
  fieldType(`${a.expected}, or ${b.expected}`, (value) => a.accepts(value) || b.accepts(value));

/** The given type or null. */
export const nullable = <V>(type: FieldType<V>): FieldType<V | null> => either(type, oneOf([null]));

/** Called with the fields of a configuration that its model does not know, if there are any: diffusers warns of them. */
export type OnUnknownFields = (fields: readonly string[]) => void;

export interface ConfigReader {
  <V>(field: string, type: FieldType<V>, defaultValue: NoInfer<V>): V;
  /** Names fields that do not change the model's outputs, as the resolution that it was trained on. */
  skip(...fields: readonly string[]): void;
  /** Reports the fields that were neither read nor skipped, but those that begin with "_", which state the file's writer. */
  reportUnknown(onUnknown: OnUnknownFields | undefined): void;
}

/**
 * Reads the fields of a diffusers or transformers config.json. An absent field takes the library's default;
 * anything the model does not implement is an `UnsupportedConfigError` that names the field.
 *
 * @example
 * const read = configReader("AutoencoderTiny", JSON.parse(text));
 * const latentChannels = read("latent_channels", positiveInteger, 4);
 */
export function configReader(modelName: string, json: unknown): ConfigReader {
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw new UnsupportedConfigError(
      `${modelName}: the configuration must be an object, as in config.json, got ${formatJson(json)}.`,
    );
  }
  const fields = new Map<string, unknown>(Object.entries(json));
  const known = new Set<string>();
  const read = <V>(field: string, type: FieldType<V>, defaultValue: NoInfer<V>): V => {
    known.add(field);
    const value = fields.has(field) ? fields.get(field) : defaultValue;
    if (type.accepts(value)) return value;
    throw new UnsupportedConfigError(
      `${modelName}: "${field}" is ${formatJson(value)}; supported: ${type.expected}. ` +
        `Use a model of a supported configuration.`,
    );
  };
  return Object.assign(read, {
    skip(...skipped: readonly string[]) {
      for (const field of skipped) known.add(field);
    },
    reportUnknown(onUnknown: OnUnknownFields | undefined) {
      const unknown = [...fields.keys()].filter((field) => !known.has(field) && !field.startsWith("_"));
      if (unknown.length > 0) onUnknown?.(unknown);
    },
  });
}
