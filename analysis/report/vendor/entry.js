export { axisX, axisY, dot, gridX, plot, ruleX, ruleY, text, tickX } from "@observablehq/plot";
