import { UnsupportedConfigError } from "@sdxs/tensor";

/**
 * Reads the fields of a scheduler's configuration, and lists those that were not read. An absent field or null has its
 * default. Each method throws `UnsupportedConfigError` naming the field for a value that it does not take.
 */
export class ConfigFields {
  private readonly known = new Set(["_class_name"]);

  constructor(private readonly config: { readonly [field: string]: unknown }) {}

  /** One of the values that are supported. */
  choice<V extends string | number | boolean>(name: string, byDefault: V, supported: readonly V[]): V {
    const value = this.value(name) ?? byDefault;
    const found = supported.find((candidate) => candidate === value);
    if (found !== undefined) return found;
    throw this.refusal(name, supported.map((candidate) => JSON.stringify(candidate)).join(", "), byDefault);
  }

  flag(name: string, byDefault = false): boolean {
    return this.choice(name, byDefault, [true, false]);
  }

  /** A finite number, or undefined where there is none. `infinite` lets infinities through. */
  number(name: string, infinite = false): number | undefined {
    const value = this.value(name);
    if (value === undefined) return undefined;
    if (typeof value === "number" && (Number.isFinite(value) || (infinite && !Number.isNaN(value)))) return value;
    throw this.refusal(name, "a number");
  }

  /** A list of finite numbers, or undefined where there is none. */
  numbers(name: string): readonly number[] | undefined {
    const value = this.value(name);
    if (value === undefined) return undefined;
    if (Array.isArray(value) && value.every((item): item is number => Number.isFinite(item))) return value;
    throw this.refusal(name, "a list of numbers");
  }

  /** A field that must be absent or null. */
  absent(name: string): void {
    if (this.value(name) !== undefined) throw this.refusal(name, "null");
  }

  /** Fields that have no effect on the numbers, as in diffusers. */
  withoutEffect(...names: readonly string[]): void {
    for (const name of names) this.known.add(name);
  }

  /** Names and values of fields that were not read, without those of the file's writer, which begin with an underscore. */
  unread(): (readonly [name: string, value: unknown])[] {
    return Object.entries(this.config).filter(([name]) => !this.known.has(name) && !name.startsWith("_"));
  }

  private value(name: string): unknown {
    this.known.add(name);
    return this.config[name] ?? undefined;
  }

  private refusal(name: string, supported: string, byDefault?: unknown): UnsupportedConfigError {
    const value = this.value(name);
    const shown = typeof value === "number" ? String(value) : JSON.stringify(value);
    return new UnsupportedConfigError(
      `Scheduler configuration of ${String(this.config["_class_name"])}: ${name} is ` +
        `${value === undefined ? `absent, by default ${JSON.stringify(byDefault)}` : shown}, supported: ${supported}.`,
    );
  }
}
