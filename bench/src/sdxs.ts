// The command line, for a process of its own.
import "../../packages/cli/src/bin.js";
