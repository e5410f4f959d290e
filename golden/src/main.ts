import { golden } from "./golden.js";

process.exitCode = await golden(process.argv.slice(2), console.log);
