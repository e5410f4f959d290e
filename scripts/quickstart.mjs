// `npm run quickstart [-- options]`: from a fresh clone to the first generated images.
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { ensureInstalled, npm, root } from "./commands.mjs";

await ensureInstalled();
const exitCode = await npm("run", "--silent", "build", "--workspace", "@sdxs/recipe-emoji");
if (exitCode !== 0) process.exit(exitCode);

// In this process, so that arguments, Ctrl-C and the exit code are the recipe's own.
const program = join(root, "recipes/emoji/dist/quickstart.js");
process.argv[1] = program;
await import(pathToFileURL(program).href);
