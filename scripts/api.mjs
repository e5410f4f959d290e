// `npm run api`: writes the API report of every package's entry, from the declarations that `npm run build` made.
// `npm run api -- --check` compares instead, and fails where a report differs.
import { Extractor, ExtractorConfig } from "@microsoft/api-extractor";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const onlyCheck = process.argv.includes("--check");
const reports = new Set();
let failed = false;

/** Writes or compares one report, and returns whether it agrees with the build. */
function report(folder, entry, declarations, temporary) {
  const file = join(folder, declarations);
  const name = `${entry === "." ? "index" : entry.slice(2)}.api.md`;
  const path = join(folder, "api", name);
  reports.add(path);
  if (!existsSync(file)) throw new Error(`There is no ${file}. Run "npm run build" first.`);
  mkdirSync(join(folder, "api"), { recursive: true });
  const config = ExtractorConfig.prepare({
    packageJsonFullPath: join(folder, "package.json"),
    configObjectFullPath: undefined,
    configObject: {
      projectFolder: folder,
      mainEntryPointFilePath: file,
      newlineKind: "lf",
      compiler: {
        overrideTsconfig: {
          extends: join(root, "tsconfig.base.json"),
          compilerOptions: { types: ["node"], skipLibCheck: true },
          files: [file],
        },
      },
      apiReport: {
        enabled: true,
        reportFileName: name,
        reportFolder: join(folder, "api"),
        reportTempFolder: temporary,
      },
      docModel: { enabled: false },
      dtsRollup: { enabled: false },
      tsdocMetadata: { enabled: false },
      messages: {
        // The reports are for exports. Remarks on doc comments would hide changes.
        extractorMessageReporting: { default: { logLevel: "none" } },
        tsdocMessageReporting: { default: { logLevel: "none" } },
      },
    },
  });
  const { apiReportChanged } = Extractor.invoke(config, {
    localBuild: !onlyCheck,
    messageCallback(message) {
      // The lines below name the reports and the command that updates them.
      const isNotice = message.logLevel === "info" || message.messageId.startsWith("console-");
      if (isNotice && message.logLevel !== "error") message.logLevel = "none";
    },
  });
  if (!apiReportChanged) return true;
  console.log(`${path.slice(root.length)} ${onlyCheck ? "differs from the build" : "written"}`);
  return !onlyCheck;
}

const temporary = mkdtempSync(join(tmpdir(), "sdxs-api-"));
try {
  for (const name of readdirSync(join(root, "packages")).sort()) {
    const folder = join(root, "packages", name);
    const { exports } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    for (const [entry, target] of Object.entries(exports)) {
      const declarations = target.import?.types; // none for "./package.json"
      if (declarations !== undefined && !report(folder, entry, declarations, temporary)) failed = true;
    }
    // Reports of entries that were removed.
    const folderOfReports = join(folder, "api");
    for (const file of existsSync(folderOfReports) ? readdirSync(folderOfReports) : []) {
      const path = join(folderOfReports, file);
      if (reports.has(path)) continue;
      console.log(`${path.slice(root.length)} ${onlyCheck ? "is the report of a removed entry" : "removed"}`);
      if (onlyCheck) failed = true;
      else rmSync(path);
    }
  }
} finally {
  rmSync(temporary, { recursive: true });
}
if (failed) {
  console.log("The public API differs from its committed reports. If that is intended, update and commit them:");
  console.log("npm run build && npm run api");
  process.exitCode = 1;
}
