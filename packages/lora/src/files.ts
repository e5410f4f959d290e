import {
  HostTensor,
  InvalidArgumentError,
  ParameterError,
  UnsupportedConfigError,
  checkFields,
  parseJson,
  select,
  type Shape,
  type TensorMap,
} from "@sdxs/tensor";
import { adaptableLayers, examineLora, failOn, loraLayers, type Lora, type Problem } from "./lora.js";
import { originalNames } from "./original-names.js";
import { alphasOfConfig } from "./peft-config.js";

// A name in a LoRA file is a component's prefix, a layer and a part of that layer's adaptation, each in one of several
// namings. The tables below list them; reading turns all into PEFT's, the names of `Lora`.

/** What a file may adapt, under the names of a diffusers pipeline. */
export type LoraComponent = "unet" | "text_encoder" | "text_encoder_2";

/**
 * How names are written:
 * - "diffusers": unet.LAYER.lora.down.weight for attention, PEFT's for all else, as diffusers' `save_lora_weights` does
 * - "peft": unet.LAYER.lora_A.weight
 * - "kohya": lora_unet_LAYER.lora_down.weight and .alpha, dots in LAYER as underscores
 * - "kohya-original": the same with the U-Net's original block names, as kohya writes for SDXL
 */
export type LoraNaming = "diffusers" | "peft" | "kohya" | "kohya-original";

/** Parameters of the models, by which names are understood and checked: declared ones, or a checkpoint's tensors. */
export type LoraModels<C extends LoraComponent = LoraComponent> = Readonly<
  Record<C, Readonly<Record<string, { readonly shape: Shape }>>>
>;

/** A LoRA file's content: what `readSafetensors` and `readSafetensorsFile` give. */
export interface LoraFile {
  readonly tensors: TensorMap<HostTensor>;
  /** Newer versions of diffusers keep alphas here, under "lora_adapter_metadata". */
  readonly metadata?: Readonly<Record<string, string>>;
  /** PEFT keeps alphas in the file adapter_config.json beside the tensors: its parsed content. */
  readonly adapterConfig?: unknown;
}

export interface LoadedLoras<C extends LoraComponent> {
  /** One for each of the given models; without parameters where the file has nothing for it. */
  readonly loras: Readonly<Record<C, Lora<HostTensor>>>;
  /** Entries for components whose model was not given, under the file's names. */
  readonly others: TensorMap<HostTensor>;
  /** Warnings: entries of the file without effect, and assumptions that were made. */
  readonly warnings: readonly LoraWarning[];
}

/**
 * What a warning of a file is about:
 * - "ALPHA_ASSUMED": nothing says alpha, which is then taken for the rank
 * - "COMPONENT_ABSENT": the file has entries for a component whose model was not given
 */
export interface LoraWarning {
  readonly code: "ALPHA_ASSUMED" | "COMPONENT_ABSENT";
  /** A sentence for people, which names what it is about. */
  readonly message: string;
}

type Part = "lora_A" | "lora_B" | "alpha";

/** Prefixes of a component's names: dotted, and kohya's (the first is that of Stable Diffusion 1 and 2). */
const prefixes: Readonly<Record<LoraComponent, { dotted: string; flat: readonly string[] }>> = {
  unet: { dotted: "unet.", flat: ["lora_unet_"] },
  text_encoder: { dotted: "text_encoder.", flat: ["lora_te_", "lora_te1_"] },
  text_encoder_2: { dotted: "text_encoder_2.", flat: ["lora_te2_"] },
};
const components = Object.keys(prefixes) as LoraComponent[];

/** PEFT's prefix of a model's names. */
const peftPrefix = "base_model.model.";

/** Endings of names by the part that they are. */
const peftDown = /\.lora_A(?:\.[^.]+)?\.weight$/;
const endings: readonly (readonly [RegExp, Part])[] = [
  // PEFT; the name of the adapter may stand between, as in "lora_A.default.weight".
  [peftDown, "lora_A"],
  [/\.lora_B(?:\.[^.]+)?\.weight$/, "lora_B"],
  // diffusers for U-Nets, for text encoders, and formerly for both; kohya.
  [/(?:\.lora\.|\.lora_linear_layer\.|_lora\.|\.lora_)down\.weight$/, "lora_A"],
  [/(?:\.lora\.|\.lora_linear_layer\.|_lora\.|\.lora_)up\.weight$/, "lora_B"],
  [/\.alpha$/, "alpha"],
];

/** Adaptations that are not B A, by their names' endings. */
const unsupportedMethods: readonly (readonly [RegExp, string])[] = [
  [/\.(dora_scale|lora_magnitude_vector(\..+)?)$/, "DoRA"],
  [/\.hada_[^.]+$/, "LoHa"],
  [/\.lokr_[^.]+$/, "LoKr"],
  [/\.lora_mid\.weight$/, "LoCon with a Tucker decomposition"],
  [/\.oft_[^.]+(\.weight)?$/, "OFT"],
  [/\.on_input$/, "IA3"],
  [/\.(diff|diff_b)$/, "full differences"],
  [/\.(w_norm|b_norm)$/, "LyCORIS norms"],
  [/\.lora_embedding_[AB](\..+)?$/, "LoRA on embeddings"],
  [/\.(lora_[AB](\.[^.]+)?|lora_up|lora_down)\.bias$/, "LoRA with biases"],
];

/**
 * How former versions of diffusers called layers of U-Nets and of text encoders, by the endings of their names now.
 * (The ".processor." in such names is dropped before.)
 */
const formerEndings: readonly (readonly [now: RegExp, then: string])[] = [
  [/\.to_out\.0$/, ".to_out"],
  [/\.(q|k|v|out)_proj$/, ".to_$1"],
];

/**
 * Understands a LoRA file in the naming of diffusers, PEFT or kohya, or a mixture, and checks it against the models.
 *
 * Names without a component's prefix, as PEFT's and early ones of diffusers, belong to the first model given that has such a
 * layer. A layer's alpha is the file's entry ".alpha", else that of `adapterConfig` or `metadata`, else its rank.
 *
 * @param models The parameters of the models that are to be adapted.
 * @throws UnsupportedConfigError where the file holds DoRA, LoHa, LoKr or another adaptation that is not B A, or its
 * configuration asks for one, or does not fit the file.
 * @throws ParameterError that lists every entry which matches no layer, lacks its counterpart or is of another shape; or
 * where the file has nothing for any of the models.
 *
 * @example
 * const file = await readSafetensorsFile("pytorch_lora_weights.safetensors"); // of @sdxs/tensor/node
 * const { loras } = readLora(file, { unet: unetParameters(config) });
 * const styled = mergeLora(weights, [{ ...loras.unet, weight: 0.8 }]);
 */
export function readLora<C extends LoraComponent>(file: LoraFile, models: LoraModels<C>): LoadedLoras<C> {
  checkFields("readLora", "file", file, ["tensors"]);
  const known = (models as LoraModels<C> | undefined) ?? {}; // callers in plain JavaScript may leave it out
  const given = components.filter((component): component is C => Object.hasOwn(known, component));
  const [only] = given;
  if (only === undefined) {
    throw new InvalidArgumentError(`readLora: give the parameters of at least one model of ${components.join(", ")}.`);
  }
  const layersOf = Object.fromEntries(given.map((component) => [component, layerNames(component, models[component])]));
  const bare = given.length === 1 ? only : bareComponent(file.tensors, given, layersOf);

  const found = Object.fromEntries(given.map((component) => [component, { params: {}, alphas: {} }])) as Record<
    C,
    { params: Record<string, HostTensor>; alphas: Record<string, number> }
  >;
  const others: Record<string, HostTensor> = {};
  const unsupported: string[] = [];
  const problems: Problem[] = [];
  for (const [name, tensor] of Object.entries(file.tensors)) {
    const { component, rest } = splitPrefix(name, bare);
    const known = layersOf[component];
    if (known === undefined) {
      others[name] = tensor;
      continue;
    }
    const { params, alphas } = found[component as C];
    const method = unsupportedMethods.find(([ending]) => ending.test(name))?.[1];
    if (method !== undefined) {
      unsupported.push(`  ${method}: ${name}`);
      continue;
    }
    const entry = identify(rest, known);
    if (typeof entry === "string") {
      problems.push({ code: "UNEXPECTED_PARAMETER", text: `${name} ${entry} of ${component}` });
      continue;
    }
    const { layer, part } = entry;
    const key = `${layer}.${part}.weight`;
    if (part === "alpha") {
      if (tensor.data.length === 1 && Number.isFinite(tensor.item())) alphas[layer] = tensor.item();
      else
        problems.push({
          code: "SHAPE_MISMATCH",
          text: `${name} must be one finite number, has shape [${tensor.shape.join(", ")}]`,
        });
    } else if (Object.hasOwn(params, key)) {
      problems.push({ code: "UNEXPECTED_PARAMETER", text: `${name} repeats ${key} of ${component}` });
    } else params[key] = tensor;
  }
  if (unsupported.length > 0) {
    throw new UnsupportedConfigError(
      `readLora: the file holds ${unsupported.length} entries of other methods than LoRA:\n${unsupported.join("\n")}\n` +
        `Merge it into the model by the program that made it, or use a plain LoRA.`,
    );
  }
  const ranks = new Map<C, Readonly<Record<string, number>>>();
  for (const component of given) {
    const examined = examineLora(found[component], models[component], ({ shape }) => shape);
    ranks.set(component, Object.fromEntries(examined.layers.map(({ layer, rank }) => [layer, rank])));
    problems.push(...examined.problems.map(({ code, text }) => ({ code, text: `${component}: ${text}` })));
  }
  failOn(problems);
  if (given.every((component) => Object.keys(found[component].params).length === 0)) {
    throw new ParameterError(
      "MISSING_PARAMETER",
      `readLora: the file adapts nothing of ${given.join(", ")}; it has ${Object.keys(others).length} entries for other ` +
        `components. Give the parameters of the model that it adapts.`,
    );
  }
  const warnings = absentComponents(others, bare);
  const loras = Object.fromEntries(
    given.map((component) => {
      const { params, alphas } = found[component];
      const ranksOfLayers = ranks.get(component) ?? {};
      const config = configOf(file, component, bare);
      if (config !== undefined) {
        return [component, { params, alphas: { ...alphasOfConfig(config, ranksOfLayers), ...alphas } }];
      }
      const unsaid = Object.keys(ranksOfLayers).filter((layer) => !Object.hasOwn(alphas, layer));
      if (unsaid.length > 0) warnings.push(...assumedAlphas(file, component, bare, unsaid, ranksOfLayers));
      return [component, { params, alphas }];
    }),
  ) as Record<C, Lora<HostTensor>>;
  return { loras, others, warnings };
}

/** Whose layers the names without a prefix are: the first model's that has one of them. */
function bareComponent(
  tensors: TensorMap<HostTensor>,
  given: readonly LoraComponent[],
  layersOf: Readonly<Record<string, ReadonlyMap<string, readonly string[]>>>,
): LoraComponent {
  for (const name of Object.keys(tensors)) {
    if (hasPrefix(name)) continue;
    const rest = stripPeft(name);
    const owner = given.find((component) => typeof identify(rest, layersOf[component]!) !== "string");
    if (owner !== undefined) return owner;
  }
  return "unet";
}

function absentComponents(others: TensorMap<HostTensor>, bare: LoraComponent): LoraWarning[] {
  const names = Object.keys(others);
  return components.flatMap((component) => {
    const own = names.filter((name) => splitPrefix(name, bare).component === component);
    if (own.length === 0) return [];
    const message = `The file's entries for ${component} (${own.length}, as ${own[0]}) have no effect: there is no such model here.`;
    return [{ code: "COMPONENT_ABSENT" as const, message }];
  });
}

/** Where the scale of some layers stands nowhere, though the file's kind has places for it. */
function assumedAlphas(
  { tensors, metadata }: LoraFile,
  component: LoraComponent,
  bare: LoraComponent,
  layers: readonly string[],
  ranks: Readonly<Record<string, number>>,
): LoraWarning[] {
  const own = Object.keys(tensors).filter((name) => splitPrefix(name, bare).component === component);
  const downs = own.filter((name) => endings.some(([ending, part]) => part === "lora_A" && ending.test(name)));
  const assumption =
    `The alpha of ${layers.length} layers of ${component} is taken for their rank (${ranks[layers[0]!]} in ${layers[0]}), ` +
    "so that B A is added without a factor";
  const networkAlpha = metadata?.["ss_network_alpha"];
  if (networkAlpha !== undefined && layers.some((layer) => ranks[layer] !== Number(networkAlpha))) {
    const reason = `though the metadata says "ss_network_alpha" ${networkAlpha}, since there is no entry ".alpha", as kohya and diffusers do`;
    return [{ code: "ALPHA_ASSUMED", message: `${assumption}, ${reason}.` }];
  }
  if (!downs.every((name) => peftDown.test(name))) return []; // in files of diffusers and kohya it is
  const advice = "If it was trained with another alpha, put its adapter_config.json beside it";
  return [
    {
      code: "ALPHA_ASSUMED",
      message: `${assumption}: neither PEFT's adapter_config.json nor metadata says it. ${advice}.`,
    },
  ];
}

/**
 * The entries of a LoRA file in one naming; `writeSafetensorsFile` of `@sdxs/tensor/node` stores them, with
 * `metadata: { format: "pt" }` as diffusers expects, in F32 or F16.
 *
 * kohya's namings hold alphas. Files of diffusers and PEFT have no place for them that all versions read, so there B is
 * scaled by alpha / rank: exactly, where that is a power of two, and within rounding otherwise.
 *
 * @param models The parameters of the models, as in `readLora`.
 * @throws ParameterError that lists every entry which does not fit its model.
 *
 * @example
 * const tensors = writeLora({ unet: trained }, { unet: unetParameters(config) }, "diffusers");
 * await writeSafetensorsFile("pytorch_lora_weights.safetensors", tensors, { metadata: { format: "pt" } });
 */
export function writeLora<C extends LoraComponent>(
  loras: Readonly<Record<C, Lora<HostTensor>>>,
  models: LoraModels<C>,
  naming: LoraNaming,
): Record<string, HostTensor> {
  const tensors: Record<string, HostTensor> = {};
  for (const component of components.filter((name): name is C => Object.hasOwn(loras, name))) {
    const kohya = naming === "kohya" || naming === "kohya-original";
    const original =
      naming === "kohya-original" && component === "unet"
        ? originalNames(adaptableLayers(models[component]).map(([layer]) => layer))
        : undefined;
    const { dotted, flat } = prefixes[component];
    const numbered = Object.hasOwn(models, "text_encoder_2"); // SDXL's first text encoder is "te1"
    for (const { layer, A, B, rank, alpha } of loraLayers(loras[component], models[component], ({ shape }) => shape)) {
      if (kohya) {
        const stem = ((numbered ? flat.at(-1) : flat[0]) ?? "") + flatten(original?.get(layer) ?? layer);
        tensors[`${stem}.lora_down.weight`] = A;
        tensors[`${stem}.lora_up.weight`] = B;
        tensors[`${stem}.alpha`] = HostTensor.scalar(alpha);
      } else {
        const [down, up] = naming === "diffusers" ? diffusersParts(layer) : (["lora_A", "lora_B"] as const);
        tensors[`${dotted}${layer}.${down}.weight`] = A;
        tensors[`${dotted}${layer}.${up}.weight`] = alpha === rank ? B : scaled(B, alpha / rank);
      }
    }
  }
  return tensors;
}

/** How diffusers' `save_lora_weights` calls the two matrices of a layer. */
function diffusersParts(layer: string): readonly [down: string, up: string] {
  if (/(^|\.)(to_q|to_k|to_v|to_out\.0)$/.test(layer)) return ["lora.down", "lora.up"];
  if (/\.(q|k|v|out)_proj$/.test(layer)) return ["lora_linear_layer.down", "lora_linear_layer.up"];
  return ["lora_A", "lora_B"];
}

const flatten = (layer: string): string => layer.replaceAll(".", "_");

const scaled = (tensor: HostTensor, factor: number): HostTensor =>
  HostTensor.from(
    tensor.shape,
    Array.from(tensor.data, (value) => value * factor),
  );

/** A model's layers by each name under which a file may have them. More than one: the name is ambiguous. */
function layerNames(
  component: LoraComponent,
  model: Readonly<Record<string, { readonly shape: Shape }>>,
): Map<string, string[]> {
  const layers = adaptableLayers(model).map(([layer]) => layer);
  const original = component === "unet" ? originalNames(layers) : new Map<string, string>();
  const names = new Map<string, string[]>();
  for (const layer of layers) {
    const former = formerEndings.map(([now, then]) => layer.replace(now, then));
    const originalName = original.get(layer);
    const flat = [layer, ...(originalName === undefined ? [] : [originalName])].map(flatten);
    for (const name of new Set([layer, ...former, ...flat])) names.set(name, [...(names.get(name) ?? []), layer]);
  }
  return names;
}

/** Which part of which layer an entry is, by its name without a prefix, or why that cannot be found. */
function identify(
  name: string,
  layers: ReadonlyMap<string, readonly string[]>,
): { layer: string; part: Part } | string {
  const [ending, part] = endings.find(([pattern]) => pattern.test(name)) ?? [];
  if (ending === undefined || part === undefined) return "is no part of a LoRA";
  const [layer, other] = layers.get(name.replace(ending, "").replace(".processor.", ".")) ?? [];
  if (layer === undefined) return "matches no layer";
  return other === undefined ? { layer, part } : `may belong to ${layer} or to ${other}`;
}

function splitPrefix(name: string, bare: LoraComponent): { component: LoraComponent; rest: string } {
  for (const component of components) {
    const prefix = prefixesOf(component).find((candidate) => name.startsWith(candidate));
    if (prefix !== undefined) return { component, rest: stripPeft(name.slice(prefix.length)) };
  }
  return { component: bare, rest: stripPeft(name) };
}

const prefixesOf = (component: LoraComponent): readonly string[] => [
  prefixes[component].dotted,
  ...prefixes[component].flat,
];

const hasPrefix = (name: string): boolean =>
  components.some((component) => prefixesOf(component).some((prefix) => name.startsWith(prefix)));

const stripPeft = (name: string): string => (name.startsWith(peftPrefix) ? name.slice(peftPrefix.length) : name);

/** PEFT's configuration of a component's LoRA, if the file comes with one. */
function configOf(file: LoraFile, component: LoraComponent, bare: LoraComponent): unknown {
  if (file.adapterConfig !== undefined && component === bare) return file.adapterConfig;
  const text = file.metadata?.["lora_adapter_metadata"];
  if (text === undefined) return undefined;
  const all = parseJson(text, `readLora: the file's "lora_adapter_metadata"`);
  if (typeof all !== "object" || all === null) return undefined;
  const config = select(all as Record<string, unknown>, prefixes[component].dotted);
  return Object.keys(config).length > 0 ? config : undefined;
}
