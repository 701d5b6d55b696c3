// Shows the AsyncAPI document that the page carries with the viewer that the page has loaded.
const specification = JSON.parse(document.getElementById("specification").textContent);
window.AsyncApiStandalone.render(
  {
    schema: specification,
    config: {
      show: { sidebar: true, errors: true },
      expand: { messageExamples: true },
      sidebar: { showServers: "byDefault", showOperations: "byDefault" },
    },
  },
  document.getElementById("asyncapi"),
);
