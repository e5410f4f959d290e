import { SdxsError, type ModelFiles } from "@sdxs/tensor";

/** Endings of files that hold weights. All but the first are pickled: reading them can run any code. */
const WEIGHTS_FILE = /\.(safetensors|ckpt|pt|pth|bin)$/i;

/** The name of a file of weights at the end of a path or an address; undefined: a folder. */
export const weightsFileName = (path: string): string | undefined =>
  WEIGHTS_FILE.test(path) ? path.split(/[/\\]/).at(-1) : undefined;

interface Kind {
  /** A name of a tensor that tells the kind. */
  readonly sign: RegExp;
  readonly what: string;
  readonly advice: (file: string) => string;
}

const byDiffusers =
  (className: string) =>
  (file: string): string =>
    `Convert it once, with Python: python3 -c "import diffusers; ` +
    `diffusers.${className}.from_single_file('${file}').save_pretrained('FOLDER')", and give FOLDER`;

/** The first that fits counts. */
const kinds: readonly Kind[] = [
  {
    sign: /(lora_[ABud]|lora_down|lora_up|\.lora\.|hada_|lokr_)/,
    what: "a LoRA",
    advice: () => "Give the model that it changes, and this file as a LoRA: --lora of sdxs, or readLora of @sdxs/lora",
  },
  {
    sign: /^(control_model\.|input_hint_block\.|zero_convs\.)/,
    what: "a ControlNet in its original naming, in a single file",
    advice: byDiffusers("ControlNetModel"),
  },
  {
    sign: /^conditioner\.embedders\./,
    what: "a checkpoint of Stable Diffusion XL in its original naming, in a single file",
    advice: byDiffusers("StableDiffusionXLPipeline"),
  },
  {
    sign: /^model\.diffusion_model\./,
    what: "a checkpoint of Stable Diffusion in its original naming, in a single file",
    advice: byDiffusers("StableDiffusionPipeline"),
  },
];

/**
 * What is wrong with a file in place of a folder: what it is, that it is not supported, and how to convert it. Of a safetensors
 * file the header is read, of others nothing. undefined: weights of another kind, whose configuration would do.
 *
 * @param expected what was to be given, as "the folder of a pipeline"
 */
export async function singleFileError(
  files: ModelFiles,
  name: string,
  expected: string,
): Promise<SdxsError | undefined> {
  const place = files.location(name);
  const say = (what: string, advice: string): SdxsError =>
    new SdxsError(
      "UNSUPPORTED_OPERATION",
      `${place} is ${what}; expected ${expected}. Single files are not supported yet. ${advice}.`,
    );
  if (!name.toLowerCase().endsWith(".safetensors")) {
    return say("a pickled file, which can run any code when it is read", byDiffusers("StableDiffusionPipeline")(place));
  }
  const file = await files.openSafetensors(name);
  const { names } = file;
  await file.close();
  const kind = kinds.find(({ sign }) => names.some((tensor) => sign.test(tensor)));
  return kind && say(kind.what, kind.advice(place));
}

/** What is wrong with any file of weights in place of a pipeline's folder. */
export async function pipelineFileError(files: ModelFiles, name: string, expected: string): Promise<SdxsError> {
  const error = await singleFileError(files, name, expected);
  return (
    error ??
    new SdxsError(
      "UNSUPPORTED_OPERATION",
      `${files.location(name)} is a file of weights alone; expected ${expected}. Give the folder that it is a part of.`,
    )
  );
}
