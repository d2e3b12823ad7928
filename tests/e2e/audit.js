// Looks for what hinders people who use a screen reader, a keyboard, or have weak eyes. Returns one line for each fault.
() => {
  const faults = [];
  const all = (selector) => [...document.querySelectorAll(selector)];
  const isShown = (element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true });
  const named = (element) => {
    const by = element.getAttribute("aria-labelledby");
    return (by ? document.getElementById(by)?.textContent : element.getAttribute("aria-label"))?.trim();
  };
  const check = (isRight, text) => isRight || faults.push(text);

  check(document.documentElement.lang, "the language is not said");
  check(document.title.trim(), "no title");
  for (const name of ["h1", "main", "body > header", "body > footer"]) check(all(name).length === 1, `not one ${name}`);

  let level = 0;
  for (const heading of all("h1, h2, h3, h4")) {
    const own = Number(heading.tagName[1]);
    check(own <= level + 1, `heading out of order: ${heading.textContent}`);
    check(heading.textContent.trim(), "empty heading");
    level = own;
  }
  for (const region of all("section, nav")) check(named(region), `a region without a name: #${region.id}`);
  for (const image of all("svg, img")) check(image.getAttribute("role") === "img" && named(image), "a picture without words");
  for (const one of all("a, summary, button")) check(one.textContent.trim(), "a link without text");
  for (const link of all('a[href^="#"]')) check(document.getElementById(link.hash.slice(1)), `a link to nowhere: ${link.hash}`);

  const ids = all("[id]").map((element) => element.id);
  check(ids.length === new Set(ids).size, "an id that stands twice");
  for (const table of all("table")) {
    check(table.caption?.textContent.trim(), "a table without a caption");
    for (const head of table.querySelectorAll("th")) check(head.scope, `a head without scope: ${head.textContent}`);
    for (const row of table.tBodies[0].rows) check(row.querySelector("th"), "a row without a head");
    for (const one of [table, ...table.querySelectorAll("thead, tbody, tr, th, td")]) check(one.getAttribute("role"), `no role: ${one.tagName}`);
  }
  check(all("[aria-live]").length === 1, "not one live region");

  const numbers = (colour) => {
    const [red, green, blue, alpha = 1] = colour.match(/[\d.]+/g).map(Number);
    return [red, green, blue, alpha];
  };
  const over = ([r, g, b, a], [x, y, z]) => [r * a + x * (1 - a), g * a + y * (1 - a), b * a + z * (1 - a), 1];
  const behind = (element) => {
    if (!element) return [255, 255, 255, 1];
    const own = numbers(getComputedStyle(element).backgroundColor);
    return own[3] === 1 ? own : over(own, behind(element.parentElement));
  };
  const luminance = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let looked = 0;
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !isShown(element) || element.closest("script, noscript")) continue;
    const ground = behind(element);
    const [light, dark] = [luminance(over(numbers(getComputedStyle(element).color), ground)), luminance(ground)].sort((a, b) => b - a);
    const contrast = (light + 0.05) / (dark + 0.05);
    check(contrast >= 4.5, `contrast ${contrast.toFixed(2)}: ${texts.currentNode.data.trim()}`);
    looked += 1;
  }
  check(looked > 50, "hardly any text");
  check(document.documentElement.scrollWidth <= window.innerWidth, `wider than the screen: ${document.documentElement.scrollWidth}`);
  for (const element of all("main *")) {
    const right = element.getBoundingClientRect().right;
    if (isShown(element) && right > window.innerWidth + 0.5) check(false, `reaches out of the screen: ${element.tagName} ${element.textContent.slice(0, 40)}`);
  }
  return faults;
}
