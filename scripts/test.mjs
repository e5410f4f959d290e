// `npm test`: everything that must hold before a change is merged. Its last line is "N passed, N failed".
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ensureInstalled, npm } from "./commands.mjs";

await ensureInstalled();

const counts = { passed: 0, failed: 0 };

function count(passed, failed) {
  counts.passed += passed;
  counts.failed += failed;
}

/** One check that is a whole npm script. */
async function check(script) {
  console.log(`\n> npm run ${script}`);
  const passed = (await npm("run", "--silent", script)) === 0;
  count(Number(passed), Number(!passed));
}

/** Vitest's own tests, counted one by one; a test file that does not even load is one failure. */
async function countTests() {
  console.log("\n> vitest run");
  const folder = mkdtempSync(join(tmpdir(), "sdxs-test-"));
  const reportPath = join(folder, "report.json");
  try {
    const exitCode = await npm(
      ...["exec", "--", "vitest", "run", "--reporter=default", "--reporter=json", `--outputFile.json=${reportPath}`],
    );
    const report = JSON.parse(readFileSync(reportPath, "utf8"));
    const brokenFiles = report.testResults.filter(
      ({ status, assertionResults }) =>
        status === "failed" && !assertionResults.some((test) => test.status === "failed"),
    );
    const failed = report.numFailedTests + brokenFiles.length;
    // Vitest also fails on errors outside of any test.
    count(report.numPassedTests, failed === 0 && exitCode !== 0 ? 1 : failed);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

await check("lint");
await check("typecheck");
await check("check:imports");
await check("build");
await countTests();

console.log(`\n${counts.passed} passed, ${counts.failed} failed`);
process.exitCode = counts.failed === 0 ? 0 : 1;
