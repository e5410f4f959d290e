import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";
import { InvalidArgumentError } from "@sdxs/tensor";

/** Variables of the process, as `process.env` has them. An empty one counts as absent. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Where sdxs keeps what it fetched. Throws `InvalidArgumentError` where no variable tells. */
export const cacheFolder = (environment: Environment): string =>
  join(environment["HF_HOME"] ? inHome(environment["HF_HOME"], environment) : userCache(environment), "sdxs");

/** HF_HOME, where the hub's own client keeps its files and the token. */
export function hubHome(environment: Environment): string {
  return environment["HF_HOME"]
    ? inHome(environment["HF_HOME"], environment)
    : join(userCache(environment), "huggingface");
}

/** "~" at the beginning of a path, as the hub's client expands it. */
export const inHome = (path: string, environment: Environment): string =>
  path === "~" || path.startsWith("~/") ? join(home(environment), path.slice(1)) : path;

/** As the XDG Base Directory Specification has it: what is empty or no absolute path counts as absent. */
function userCache(environment: Environment): string {
  const folder = environment["XDG_CACHE_HOME"];
  return folder && isAbsolute(folder) ? folder : join(home(environment), ".cache");
}

function home(environment: Environment): string {
  if (environment["HOME"]) return environment["HOME"];
  let folder = "";
  try {
    // Of the user's entry in the system's list; homedir() itself would go by an empty HOME.
    if (environment["HOME"] === undefined) folder = homedir();
  } catch {
    // The user has no entry, as in many containers.
  }
  if (folder !== "") return folder;
  throw new InvalidArgumentError(
    "No folder for fetched files is known: set HOME, or XDG_CACHE_HOME to an absolute path, or pass a folder to diskCache.",
  );
}
