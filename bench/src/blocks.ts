import { readFile, writeFile } from "node:fs/promises";
import { InvalidArgumentError, SdxsError } from "@sdxs/tensor";
import { costTable, parseUNetConfig, planBlockRemoval, publishedUNets, studentCosts, unetCosts } from "@sdxs/tiny-unet";
import type { PublishedUNet, UNetConfig } from "@sdxs/tiny-unet";
import { BLOCKS_USAGE, parseBlockArguments, type BlockArguments } from "./block-arguments.js";
import { pageWithFigures, trainedSize } from "./block-report.js";

const page = new URL("../../docs/block-removal.md", import.meta.url);

async function readTeacher(teacher: string): Promise<UNetConfig> {
  if (Object.hasOwn(publishedUNets, teacher)) return publishedUNets[teacher as PublishedUNet];
  try {
    return parseUNetConfig(JSON.parse(await readFile(teacher, "utf8")));
  } catch (cause) {
    if (cause instanceof SdxsError) throw cause;
    throw new InvalidArgumentError(
      `table:blocks: --teacher must be one of ${Object.keys(publishedUNets).join(", ")}, or a config.json; ` +
        `"${teacher}" cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`,
      { cause },
    );
  }
}

async function table({ teacher, removal, size, tokens }: BlockArguments): Promise<string> {
  const config = await readTeacher(teacher);
  const latents = size ?? trainedSize(config);
  if (latents === undefined) {
    throw new InvalidArgumentError("table:blocks: the configuration has no sample_size. Give --size HEIGHTxWIDTH.");
  }
  const counted = { ...latents, tokens };
  const before = unetCosts(config, counted);
  return costTable(before, removal && studentCosts(planBlockRemoval(config, removal), counted));
}

try {
  const args = parseBlockArguments(process.argv.slice(2));
  if (args.write) await writeFile(page, await pageWithFigures(await readFile(page, "utf8")));
  else console.log(await table(args));
} catch (error) {
  if (!(error instanceof SdxsError)) throw error;
  console.error(error.code === "INVALID_ARGUMENT" ? `${error.message}\n\n${BLOCKS_USAGE}` : error.message);
  process.exitCode = 2;
}
