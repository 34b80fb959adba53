/**
 * Writes every generated file of the repository; with `--check` only says which ones are out of date (exit 1).
 * @module
 */
import {
  chartDirectory,
  generateChart,
  generateManifest,
  generateTemplates,
  manifestDirectory,
  templatesDirectory,
} from "./packaging/chart.ts";
import { generateMaps, mapsGenDirectory } from "../datapath/maps/generate.ts";
import { generateAssembly, tablesGenDirectory } from "../datapath/verifier/generate.ts";
import { flowGenDirectory, generateFlowEnums, generateProto, protoGenDirectory } from "../proto/generate.ts";
import { generateHeader, headerGenDirectory } from "../datapath/bpf/generate.ts";

interface Generator {
  name: string;
  directory: URL;
  files(): Map<string, string> | Promise<Map<string, string>>;
}

// In this order: a later one reads what an earlier one wrote.
const generators: Generator[] = [
  { name: "flow", directory: flowGenDirectory, files: generateFlowEnums },
  { name: "bpf", directory: headerGenDirectory, files: generateHeader },
  { name: "proto", directory: protoGenDirectory, files: generateProto },
  { name: "verifier", directory: tablesGenDirectory, files: generateAssembly },
  { name: "maps", directory: mapsGenDirectory, files: generateMaps },
  { name: "manifest", directory: manifestDirectory, files: generateManifest },
  { name: "chart", directory: chartDirectory, files: generateChart },
  { name: "templates", directory: templatesDirectory, files: generateTemplates },
];

const check = Deno.args.includes("--check");
let stale = 0;
for (const generator of generators) {
  const files = await generator.files();
  Deno.mkdirSync(generator.directory, { recursive: true });
  // A README beside generated files is written by people.
  const present = new Set(
    [...Deno.readDirSync(generator.directory)].filter(({ isFile, name }) => isFile && name !== "README.md")
      .map(({ name }) => name),
  );
  for (const name of present) {
    if (files.has(name)) continue;
    stale++;
    console.log(`${generator.name}: ${name} is no longer generated${check ? "" : ", removed"}`);
    if (!check) Deno.removeSync(new URL(name, generator.directory));
  }
  for (const [name, source] of files) {
    const url = new URL(name, generator.directory);
    if (present.has(name) && Deno.readTextFileSync(url) === source) continue;
    stale++;
    console.log(`${generator.name}: ${name} ${check ? "is out of date" : "written"}`);
    if (!check) Deno.writeTextFileSync(url, source);
  }
}
if (check && stale > 0) {
  console.log("Generated code is out of date: run `deno task generate`");
  Deno.exit(1);
}
