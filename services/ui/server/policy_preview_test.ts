import assert from "node:assert/strict";
import { ProblemError } from "@weir/common";
import { MANIFEST_BYTES_MAX } from "@weir/common/manifest";
import { PreviewAnswer } from "@weir/proto/history";
import { previewOf, readPreview } from "./policy_preview.ts";

const asked = (body: BodyInit) => readPreview(new Request("http://ui/", { method: "POST", body }));

Deno.test("readPreview() takes a text, and refuses what is none before it is sent anywhere", async () => {
  assert.deepEqual(await asked('{"text":"kind: X"}'), { text: "kind: X", file: "policy.yaml", sinceH: 24 });
  const bad = [
    "",
    "null",
    "[]",
    '{"text":1}',
    '{"text":"","file":2}',
    '{"text":"","sinceH":0}',
    '{"text":"","sinceH":1.5}',
  ];
  for (const body of [...bad, new Uint8Array([0x7b, 0xff])]) {
    await assert.rejects(
      asked(body),
      (error) => error instanceof ProblemError && error.code === "QUERY_INVALID",
    );
  }
  // In JSON each of these takes two bytes.
  const largest = "\n".repeat(MANIFEST_BYTES_MAX);
  assert.equal((await asked(JSON.stringify({ text: largest }))).text, largest);
  for (const text of [largest + "x", "é".repeat(MANIFEST_BYTES_MAX / 2 + 1), "x".repeat(5 << 20)]) {
    await assert.rejects(
      asked(JSON.stringify({ text })),
      (error) => error instanceof ProblemError && error.code === "BODY_TOO_LARGE",
    );
  }
});

Deno.test("previewOf() names rules by their place, and ports by their protocol", () => {
  const rule = { policy: "cnp:shop/web", file: "/etc/web.yaml", line: 7 };
  const change = {
    effect: "closes",
    from: "shop/a",
    to: "shop/b",
    connections: 3,
    lastMs: 5000,
    rules: [rule],
  };
  const found = previewOf(PreviewAnswer.create({
    changes: [
      { ...change, protocol: 6, port: 80, byDefault: true },
      { ...change, effect: "opens", protocol: 1, port: 8, before: [{ policy: "cnp:shop/web" }] },
      { ...change, effect: "of a newer history" },
    ],
    counts: { closes: 3, opens: 3 },
    maps: { entriesMax: 10, tooLarge: [{ name: "shop/b", entries: 11 }] },
    record: { connections: 6, complete: true },
  }));
  assert.deepEqual(found.changes.map(({ effect, port, rules, before }) => [effect, port, rules, before]), [
    ["closes", "80/TCP", ["cnp:shop/web (web.yaml:7)"], []],
    ["opens", "ICMP type 8", ["cnp:shop/web (web.yaml:7)"], ["cnp:shop/web"]],
  ]);
  assert.deepEqual(found.tooLarge, ["shop/b would take 11 entries of at most 10"]);
  assert.equal(found.changes[0].lastUnixS, 5);
});
