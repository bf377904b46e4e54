from .widgets import explore as explore
