import {
  UnsupportedConfigError,
  configReader,
  either,
  finiteNumber,
  flag,
  mapTensors,
  oneOf,
  type FieldType,
} from "@sdxs/tensor";

/** Fields of PEFT's LoraConfig that do not change what a finished LoRA adds. */
const withoutEffect = new Set([
  "alpha_pattern", // read below, as the six that follow
  "lora_alpha",
  "peft_type",
  "r",
  "rank_pattern",
  "target_modules",
  "use_rslora",
  "auto_mapping",
  "base_model_name_or_path",
  "corda_config",
  "eva_config",
  "exclude_modules",
  "inference_mode",
  "layers_pattern",
  "layers_to_transform",
  "loftq_config",
  "lora_dropout",
  "megatron_config",
  "megatron_core",
  "peft_version",
  "qalora_group_size",
  "revision",
  "runtime_config",
  "task_type",
]);

/** "init_lora_weights" whose training begins by changing the model's own weights, which the file does not have. */
const changingInits = /^(pissa|olora|loftq|corda|lora_ga)/;

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const numbersByName: FieldType<Readonly<Record<string, number>>> = {
  expected: "an object of numbers",
  accepts: (value): value is Readonly<Record<string, number>> =>
    isRecord(value) && Object.values(value).every((one) => Number.isFinite(one)),
};

const targetNames: FieldType<string | readonly string[] | null> = {
  expected: "a list of names, or an expression",
  accepts: (value): value is string | readonly string[] | null =>
    value === null ||
    typeof value === "string" ||
    (Array.isArray(value) && value.every((name) => typeof name === "string")),
};

/**
 * alpha by layer as a PEFT configuration (`LoraConfig` in adapter_config.json) says, such that alpha / rank is the scale.
 *
 * @param ranks of the layers that the file adapts
 * @throws UnsupportedConfigError that names the field: where it asks for what is not supported, or does not fit the file
 */
export function alphasOfConfig(
  json: unknown,
  ranks: Readonly<Record<string, number>>,
): Readonly<Record<string, number>> {
  const read = configReader("LoRA", json);
  read("peft_type", oneOf(["LORA"]), "LORA");
  const commonAlpha = read("lora_alpha", finiteNumber, 8); // PEFT's default
  const isRankStabilized = read("use_rslora", flag, false); // scale alpha / sqrt(rank), https://arxiv.org/abs/2312.03732
  const rankPattern = read("rank_pattern", numbersByName, {});
  const alphaPattern = read("alpha_pattern", numbersByName, {});
  const commonRank = read("r", either(finiteNumber, oneOf([null])), null);
  const targets = read("target_modules", targetNames, null);
  read("bias", oneOf(["none", null]), "none");
  refuseOthers(json as Readonly<Record<string, unknown>>);

  const layers = Object.keys(ranks);
  const outside = layers.find((layer) => !isTarget(layer, targets));
  if (outside !== undefined) {
    throw new UnsupportedConfigError(
      `LoRA: "target_modules" is ${JSON.stringify(targets)}, but the file adapts ${outside}. Use the configuration of this file.`,
    );
  }
  // As in PEFT 0.13: the first key that matches counts for both, and those of rank_pattern go first.
  const keys = [...new Set([...Object.keys(rankPattern), ...Object.keys(alphaPattern)])].map(
    (key) => [key, patternOf(key)] as const,
  );
  for (const [key, pattern] of keys) {
    if (layers.length === 0 || layers.some((layer) => pattern.test(layer))) continue;
    const field = Object.hasOwn(rankPattern, key) ? "rank_pattern" : "alpha_pattern";
    throw new UnsupportedConfigError(
      `LoRA: "${field}" has "${key}", which names no adapted layer; supported: names of layers, their endings, or expressions.`,
    );
  }
  return mapTensors(ranks, (rank, layer) => {
    const key = keys.find(([, pattern]) => pattern.test(layer))?.[0] ?? layer;
    const expected = rankPattern[key] ?? commonRank ?? rank;
    if (expected !== rank) {
      throw new UnsupportedConfigError(
        `LoRA: "${rankPattern[key] === undefined ? "r" : "rank_pattern"}" gives ${layer} the rank ${expected}, but the file's ` +
          `has ${rank}. Use the configuration of this file.`,
      );
    }
    const alpha = alphaPattern[key] ?? commonAlpha;
    return isRankStabilized ? alpha * Math.sqrt(rank) : alpha;
  });
}

/** Any other field must have its default: it may change what the LoRA adds. */
function refuseOthers(fields: Readonly<Record<string, unknown>>): void {
  for (const [name, value] of Object.entries(fields)) {
    if (withoutEffect.has(name) || name === "bias") continue;
    const isIdle =
      name === "init_lora_weights"
        ? typeof value !== "string" || !changingInits.test(value)
        : value === null || value === false || (typeof value === "object" && Object.keys(value).length === 0);
    if (isIdle) continue;
    throw new UnsupportedConfigError(
      `LoRA: "${name}" is ${JSON.stringify(value)}, which is not supported. Merge the LoRA into the model by PEFT, and use that.`,
    );
  }
}

/** A key of a pattern as PEFT understands it: an expression for a layer's name or its ending. */
const patternOf = (key: string): RegExp => expression(`(?:.*\\.)?(?:${key})`, key);

/** What a whole name must match. Python expressions that JavaScript does not have are refused. */
function expression(source: string, written: string): RegExp {
  try {
    return new RegExp(`^(?:${source})$`);
  } catch (cause) {
    throw new UnsupportedConfigError(`LoRA: ${JSON.stringify(written)} is not understood as an expression for names.`, {
      cause,
    });
  }
}

function isTarget(layer: string, targets: string | readonly string[] | null): boolean {
  if (targets === null || targets === "all-linear") return true;
  if (typeof targets === "string") return expression(targets, targets).test(layer);
  return targets.some((name) => layer === name || layer.endsWith(`.${name}`));
}
