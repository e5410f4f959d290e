import { countArithmetic, scope, sizeOf, type Program, type TensorSpec } from "@sdxs/tensor";
import {
  costTable,
  planBlockRemoval,
  publishedUNets,
  studentCosts,
  totalCost,
  unetCosts,
  type BlockCost,
  type BlockRemovalPreset,
  type PublishedUNet,
  type UNetConfig,
  type UNetSize,
} from "@sdxs/tiny-unet";
import {
  autoencoderKlPresets,
  autoencoderTinyPresets,
  decodeKl,
  decodeTiny,
  klDecoderParameters,
  tinyDecoderParameters,
} from "@sdxs/tiny-vae";
import { format } from "prettier";
import { markdownTable, withFigures } from "./markdown.js";

/** Each published student with its teacher and the preset that makes it. */
const STUDENTS: readonly (readonly [student: PublishedUNet, teacher: PublishedUNet, preset: BlockRemovalPreset])[] = [
  ["sdxs-512", "sd21-base", "sdxs-512"],
  ["sdxs-512-0.9", "sd21-base", "sdxs-512-0.9"],
  ["sdxs-512-dreamshaper", "sd15", "sdxs-512"],
  ["bk-sdm-base", "sd15", "bk-sdm-base"],
  ["bk-sdm-small", "sd15", "bk-sdm-small"],
  ["bk-sdm-tiny", "sd15", "bk-sdm-tiny"],
  ["sdxs-1024", "sdxl", "sdxs-1024"],
];

/** Per-block tables are shown for the paper's two. */
const IN_DETAIL: readonly PublishedUNet[] = ["sdxs-512", "sdxs-1024"];

/** The latents that a U-Net was trained for, if its configuration says so. */
export function trainedSize({ sample_size: size }: UNetConfig): UNetSize | undefined {
  const [height, width = height] = typeof size === "number" ? [size] : (size ?? []);
  return height === undefined || width === undefined ? undefined : { height, width };
}

/** docs/block-removal.md with its figures computed anew. */
export function pageWithFigures(page: string): Promise<string> {
  return format(withFigures(page, blockFigures()), { parser: "markdown", printWidth: 120 });
}

/** The sizes of the published models, and block by block what the paper's two students keep of their teachers. */
function blockFigures(): string {
  const details = STUDENTS.filter(([student]) => IN_DETAIL.includes(student)).map(([student, teacher, preset]) => {
    const size = nativeSize(teacher);
    const plan = planBlockRemoval(publishedUNets[teacher], preset);
    const title = `### ${teacher} to ${student}, latents ${size.height}x${size.width}`;
    return `${title}\n\n${costTable(unetCosts(publishedUNets[teacher], size), studentCosts(plan, size))}`;
  });
  return [unetTable(), decoderTable(), ...details].join("\n\n");
}

function unetTable(): string {
  const row = (name: PublishedUNet, origin: string): string[] => {
    const size = nativeSize(name);
    return [name, origin, `${size.height}x${size.width}`, ...inUnits(totalCost(unetCosts(publishedUNets[name], size)))];
  };
  const teachers = [...new Set(STUDENTS.map(([, teacher]) => teacher))];
  const rows = teachers.flatMap((teacher) => [
    row(teacher, "-"),
    ...STUDENTS.filter(([, of]) => of === teacher).map(([student, , preset]) => row(student, `${teacher}, ${preset}`)),
  ]);
  return markdownTable(["U-Net", "teacher, preset", "latents", "M parameters", "G multiply-adds"], rows);
}

function decoderTable(): string {
  const { sd: kl } = autoencoderKlPresets; // of SDXL's the layers are the same
  const { taesd: tiny } = autoencoderTinyPresets;
  const latents = { latents: { shape: [1, 4, 64, 64] } };
  const cost = (specs: Readonly<Record<string, TensorSpec>>, decode: Program<"latents">): string[] =>
    inUnits({
      parameters: Object.values(specs).reduce((sum, { shape }) => sum + sizeOf(shape), 0),
      multiplyAdds: countArithmetic(decode, specs, latents).multiplyAdds,
    });
  return markdownTable(
    ["decoder", "latents", "M parameters", "G multiply-adds"],
    [
      [
        "AutoencoderKL",
        "64x64",
        ...cost(klDecoderParameters(kl), (ops, params, given) => ({
          image: decodeKl(ops, scope(ops, params), kl, given.latents),
        })),
      ],
      [
        "AutoencoderTiny",
        "64x64",
        ...cost(tinyDecoderParameters(tiny), (ops, params, given) => ({
          image: decodeTiny(ops, scope(ops, params), tiny, given.latents),
        })),
      ],
    ],
  );
}

function inUnits({ parameters, multiplyAdds }: Omit<BlockCost, "block">): string[] {
  return [(parameters / 1e6).toFixed(2), (multiplyAdds / 1e9).toFixed(1)];
}

function nativeSize(name: PublishedUNet): UNetSize {
  const size = trainedSize(publishedUNets[name]);
  if (size === undefined) throw new Error(`${name} has no sample_size.`);
  return size;
}
