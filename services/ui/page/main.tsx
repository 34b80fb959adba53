/**
 * The page's entry.
 * @module
 */
import { createRoot } from "react-dom/client";
import "@xyflow/react/dist/base.css";
import "uplot/dist/uPlot.min.css";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/shell.css";
import "./styles/parts.css";
import "./styles/filter.css";
import "./styles/strip.css";
import "./styles/map.css";
import "./styles/explanation.css";
import "./styles/grid.css";
import "./styles/policy.css";
import "./styles/health.css";
import { App } from "./app.tsx";
import { warmLayout } from "./data/elk_layout.ts";

warmLayout();
createRoot(document.getElementById("root")!).render(<App />);
