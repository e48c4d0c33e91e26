// Before anything is painted: the theme that was chosen here, if one was.
try {
  const theme = localStorage.getItem("sched-theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch { /* storage is switched off: as the system has it */ }
document.documentElement.classList.add("js");
