import { equal, ok } from "node:assert/strict";
import { render, showOn, table } from "./output.ts";
import { paint, PLAIN } from "./screen.ts";

Deno.test("tables fit the terminal: the widest column gives first, -o wide shows all", () => {
  const long = "x".repeat(200);
  const columns = [{ title: "NAME", cell: () => "web" }, { title: "LABELS", cell: () => long }];
  try {
    showOn({ columns: 60, colours: false });
    for (const line of render([1], columns, "table").split("\n")) ok([...line].length <= 60, line);
    ok(render([1], columns, "table").includes("web    xxx"));
    ok(render([1], columns, "table").includes("x…\n"));
    ok(render([1], columns, "wide").includes(long));
    const named = [{ title: "NAME", cell: () => "empire/deathstar-1-of-many-others" }, columns[1]];
    ok(render([1], named, "table").includes("empire/deathstar-1-of-many-others   xxxx"), "names give last");
    showOn(PLAIN);
    ok(render([1], columns, "table").includes(long), "a pipe has no end");
  } finally {
    showOn(PLAIN);
  }
});

Deno.test("states have colours where there are some, and only there", () => {
  try {
    showOn({ colours: true });
    equal(
      table(["NAME", "STATE"], [["ready", "ready"]]),
      "\x1b[1mNAME\x1b[0m    \x1b[1mSTATE\x1b[0m\nready   \x1b[32mready\x1b[0m\n",
    );
  } finally {
    showOn(PLAIN);
  }
  equal(paint("DROPPED", PLAIN), "DROPPED");
  equal(paint("DROPPED BY x", { colours: true }), "\x1b[31mDROPPED BY x\x1b[0m");
});
