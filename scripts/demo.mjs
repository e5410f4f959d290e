// `npm run demo`: builds the page and serves it, until Ctrl-C.
import { ensureInstalled, npm } from "./commands.mjs";

await ensureInstalled();
process.exitCode = await npm("run", "--silent", "start", "--workspace", "@sdxs/demo");
