import { deepEqual, equal, match } from "node:assert/strict";
import { EndpointTroubles, TableUsage } from "@weir/proto/datapath";
import { Rollup } from "@weir/proto/history";
import { showTop } from "./top.ts";
import { ranked } from "./top_flows.ts";
import { showTroubles } from "./top_troubles.ts";

const CONNTRACK = TableUsage.create({
  table: "conntrack",
  entries: 100_000,
  entriesMax: 131_072,
  holders: [
    { holder: "default/noisy", held: 80_000, refused: 12, pressing: true },
    { holder: "outside", towards: "default/web", held: 19_990 },
    { holder: "node", held: 10 },
  ],
});
const lines = (text: string) => text.trimEnd().split("\n").map((line) => line.replace(/ {3,}/g, "|"));

Deno.test("weir top shows who holds what part of a table, and who is over its share", () => {
  const [title, ...rows] = lines(showTop("conntrack", [{ node: "node-1", usage: CONNTRACK }], "table", 2));
  equal(title, "NODE|HOLDER|TOWARDS|FLOWS|SHARE|NEW FLOWS REFUSED|STATE");
  equal(rows[0], "node-1|default/noisy|-|80000|61.0 %|12|over its share");
  equal(rows[1], "node-1|outside|default/web|19990|15.3 %|0|-");
  equal(rows[2], "node-1: 100000 of 131072 flows; 1 holders more (--limit)");
});

Deno.test("weir top handles shows whose connections the proxy judges", () => {
  const handles = TableUsage.create({
    table: "handles",
    entries: 96,
    entriesMax: 128,
    holders: [{ holder: "default/hog", held: 64, refused: 7, pressing: true }],
  });
  const [title, row] = lines(showTop("handles", [{ node: "n", usage: handles }], "table", 20));
  equal(title, "NODE|HOLDER|TOWARDS|CONNECTIONS|SHARE|NEW ONES REFUSED|STATE");
  equal(row, "n|default/hog|-|64|50.0 %|7|over its share");
});

Deno.test("weir top -o json has everything, by node", () => {
  const [answer] = JSON.parse(showTop("conntrack", [{ node: "node-1", usage: CONNTRACK }], "json", 20));
  equal(answer.holders.length, 3);
  equal(answer.entriesMax, 131_072);
  equal(answer.holders[0].holder, "default/noisy");
});

Deno.test("weir top events shows parts of all that were made; of the ipcache there is no direction", () => {
  const events = TableUsage.create({
    table: "events",
    entries: 200,
    entriesMax: 4 << 20,
    holders: [{ holder: "a", held: 75, refused: 3 }, { holder: "b", held: 25 }],
  });
  const shown = lines(showTop("events", [{ node: "n", usage: events }], "table", 20));
  equal(shown[1], "n|a|-|75|75.0 %|3|-");
  match(shown[3], /^n: 200 bytes wait in a ring of 4194304$/);
  const ipcache = TableUsage.create({
    table: "ipcache",
    entriesMax: 10,
    holders: [{ holder: "policies", held: 4 }],
  });
  equal(
    lines(showTop("ipcache", [{ node: "n", usage: ipcache }], "table", 20))[0],
    "NODE|HOLDER|PREFIXES|SHARE|LEFT OUT|STATE",
  );
});

Deno.test("weir top troubles shows whose flows fail, and that none does", () => {
  const troubles = [
    EndpointTroubles.create({
      endpoint: "shop/cart",
      side: "opened",
      noAnswer: 12,
      refused: 3,
      retransmitted: 7,
    }),
    EndpointTroubles.create({ endpoint: "shop/db", side: "towards", refused: 3 }),
  ];
  const [title, ...rows] = lines(showTroubles([{ node: "n", troubles }], "table", 20));
  equal(title, "NODE|ENDPOINT|FLOWS|NO ANSWER|REFUSED|UNREACHABLE|TOO BIG|UNCONFIRMED|RETRANSMITTED");
  equal(rows[0], "n|shop/cart|opened by it|12|3|0|0|0|7");
  equal(rows[1], "n|shop/db|to it|0|3|0|0|0|-");
  match(showTroubles([{ node: "n", troubles: [] }], "table", 20), /^No flow is in trouble/);
});

Deno.test("ranked() has the most first, and nothing that did not happen", () => {
  const group = (name: string, flows: number, dropped: number, bytes = 0) =>
    Rollup.create({ keys: { "from.workload": name }, flows, dropped, bytes });
  const groups = [group("a", 5, 0), group("b", 9, 2), group("c", 1, 7), group("d", 1, 0, 9000)];
  const names = (table: string) => ranked(table, groups).map(({ keys }) => keys["from.workload"]);
  deepEqual(names("talkers"), ["d", "b", "a", "c"]);
  deepEqual(names("drops"), ["c", "b"]);
});
