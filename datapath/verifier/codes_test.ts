import assert from "node:assert/strict";
import { CODES } from "./codes.ts";

const ASSEMBLY = new URL("./assembly/", import.meta.url);

function sources(): [name: string, text: string][] {
  return [...Deno.readDirSync(ASSEMBLY)].filter(({ name }) => name.endsWith(".ts"))
    .map(({ name }) => [name, Deno.readTextFileSync(new URL(name, ASSEMBLY))]);
}

Deno.test("the assembly names its codes and never says their numbers", () => {
  for (const [name, text] of sources()) {
    const number = /\b(fail[12]?|failI?S|outOf)\(\s*\d+/.exec(text);
    assert.equal(number, null, `${name}: ${number?.[0]}`);
  }
});

Deno.test("every code has a name of its own", () => {
  assert.equal(new Set([...CODES.values()].map(({ name }) => name)).size, CODES.size);
});
