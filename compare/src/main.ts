import { compare } from "./compare.js";

process.exitCode = await compare(process.argv.slice(2), console.log);
