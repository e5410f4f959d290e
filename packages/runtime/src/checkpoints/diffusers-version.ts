/**
 * Which diffusers a saved folder is for: `_diffusers_version` is the least version that knows all that is written. An older one
 * leaves out fields that it does not know, and fills what it then lacks with random weights.
 */

/** Which version reads all that is written here but for later fields: chosen, that of the reference data. */
export const BASE_VERSION = "0.27.2";
/** The first that opens models in shards. */
export const SHARDS_SINCE = "0.29.0";

interface LaterField {
  readonly since: string;
  /** What an older version does. */
  readonly byDefault: unknown;
}

const noSigmas = {
  use_exponential_sigmas: { since: "0.31.0", byDefault: false },
  use_beta_sigmas: { since: "0.31.0", byDefault: false },
};
const noFlow = {
  ...noSigmas,
  use_flow_sigmas: { since: "0.32.0", byDefault: false },
  flow_shift: { since: "0.32.0", byDefault: 1 },
  use_dynamic_shifting: { since: "0.35.0", byDefault: false },
  time_shift_type: { since: "0.35.0", byDefault: "exponential" },
};
const toZero = { final_sigmas_type: { since: "0.28.0", byDefault: "zero" } };

/** Fields that each class of diffusers took after the base version, from the signatures of its releases. */
const laterFields: Readonly<Record<string, Readonly<Record<string, LaterField>>>> = {
  AutoencoderKL: {
    shift_factor: { since: "0.29.0", byDefault: null },
    use_quant_conv: { since: "0.29.0", byDefault: true },
    use_post_quant_conv: { since: "0.29.0", byDefault: true },
    mid_block_add_attention: { since: "0.30.0", byDefault: true },
  },
  AutoencoderTiny: {
    upsample_fn: { since: "0.28.0", byDefault: "nearest" },
    shift_factor: { since: "0.30.0", byDefault: 0 },
  },
  EulerDiscreteScheduler: { ...toZero, ...noSigmas },
  HeunDiscreteScheduler: noSigmas,
  LMSDiscreteScheduler: noSigmas,
  DPMSolverMultistepScheduler: noFlow,
  DEISMultistepScheduler: noFlow,
  UniPCMultistepScheduler: {
    ...toZero,
    ...noFlow,
    rescale_betas_zero_snr: { since: "0.28.0", byDefault: false },
    sigma_min: { since: "0.39.0", byDefault: null },
    sigma_max: { since: "0.39.0", byDefault: null },
    shift_terminal: { since: "0.39.0", byDefault: null },
  },
};

type Fields = Readonly<Record<string, unknown>>;

/** A configuration without later fields that say what an older version does anyway. */
export function withoutLaterDefaults(className: string, fields: Fields): Fields {
  const later = laterFields[className] ?? {};
  return Object.fromEntries(Object.entries(fields).filter(([name, value]) => later[name]?.byDefault !== value));
}

/** The least version that knows all of a configuration's fields. */
export function versionOf(className: string, fields: Fields): string {
  const later = laterFields[className] ?? {};
  return latest(Object.keys(fields).flatMap((name) => later[name]?.since ?? []));
}

/** The latest of some versions, and at least the base. */
export function latest(versions: readonly string[]): string {
  return versions.reduce((a, b) => (a.localeCompare(b, "en", { numeric: true }) < 0 ? b : a), BASE_VERSION);
}
