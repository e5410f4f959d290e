// Builds every package by turbo, which `npm` of commands.mjs keeps from reporting to its maker.
import { npm } from "./commands.mjs";

process.exitCode = await npm("exec", "--", "turbo", "run", "build", ...process.argv.slice(2));
